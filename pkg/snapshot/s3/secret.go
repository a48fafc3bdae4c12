package s3

import (
	"fmt"
	"strconv"
	"time"

	"github.com/skiff-k8s/skiff/pkg/config"
)

// FromSecret reads settings from the data of a Secret, whose keys are the
// settings' names, with "s3-" or the "etcd-s3-" of k3s before them; and the
// CA from the key s3-endpoint-ca, which here is the certificate itself. What it
// does not have is taken from base.
func FromSecret(base config.S3, data map[string][]byte) (cfg config.S3, ca []byte, err error) {
	cfg = base
	get := func(name string) (string, bool) {
		for _, prefix := range []string{"s3-", "etcd-s3-"} {
			if v, ok := data[prefix+name]; ok {
				return string(v), true
			}
		}
		return "", false
	}
	for name, into := range map[string]*string{
		"endpoint": &cfg.Endpoint, "bucket": &cfg.Bucket, "region": &cfg.Region, "folder": &cfg.Folder, "bucket-lookup-type": &cfg.BucketLookup,
	} {
		if v, ok := get(name); ok {
			*into = v
		}
	}
	for name, into := range map[string]*config.Secret{
		"access-key": &cfg.AccessKey, "secret-key": &cfg.SecretKey, "session-token": &cfg.SessionToken,
	} {
		if v, ok := get(name); ok {
			*into = config.Secret(v)
		}
	}
	for name, into := range map[string]*bool{"insecure": &cfg.Insecure, "skip-ssl-verify": &cfg.SkipVerify} {
		if v, ok := get(name); ok {
			if *into, err = strconv.ParseBool(v); err != nil {
				return cfg, nil, fmt.Errorf("s3-%s is neither true nor false", name)
			}
		}
	}
	if v, ok := get("timeout"); ok {
		if cfg.Timeout, err = time.ParseDuration(v); err != nil || cfg.Timeout <= 0 {
			return cfg, nil, fmt.Errorf("s3-timeout is not a duration such as 5m")
		}
	}
	if v, ok := get("endpoint-ca"); ok {
		ca = []byte(v)
	}
	if cfg.Bucket == "" {
		return cfg, nil, fmt.Errorf("there is no s3-bucket in it")
	}
	return cfg, ca, nil
}
