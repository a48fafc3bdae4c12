package s3

import (
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/pkg/config"
)

func TestASecretMayBeThatOfK3s(t *testing.T) {
	base := config.S3{Endpoint: "s3.amazonaws.com", Region: "us-east-1", Timeout: time.Minute}
	cfg, ca, err := FromSecret(base, map[string][]byte{
		"etcd-s3-endpoint": []byte("s3.example.com"), "etcd-s3-bucket": []byte("backups"), "etcd-s3-access-key": []byte("me"),
		"s3-insecure": []byte("true"), "s3-timeout": []byte("10s"), "etcd-s3-endpoint-ca": []byte("a certificate"),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := config.S3{Endpoint: "s3.example.com", Region: "us-east-1", Bucket: "backups", AccessKey: "me", Insecure: true, Timeout: 10 * time.Second}
	if cfg != want || string(ca) != "a certificate" {
		t.Errorf("got %+v and the CA %q", cfg, ca)
	}
	for name, bad := range map[string]map[string][]byte{
		"no bucket":     {},
		"not a boolean": {"s3-bucket": []byte("b"), "s3-insecure": []byte("perhaps")},
		"not a time":    {"s3-bucket": []byte("b"), "s3-timeout": []byte("-1s")},
	} {
		if _, _, err := FromSecret(base, bad); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}
