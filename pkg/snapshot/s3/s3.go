// Package s3 keeps snapshots in an S3 bucket. It is a part of pkg/snapshot: the
// wiring of a server and the command line make a Bucket and hand it there.
package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/snapshot"
)

// about is the user metadata of an object in which the snapshot's is, but for
// the cluster's keys.
const about = "Skiff-Snapshot"

// retries of one request; what failed as a whole is tried again by the schedule.
const retries = 3

// Bucket is a place for snapshots.
type Bucket struct {
	cfg    config.S3
	client *minio.Client
}

var _ snapshot.Remote = (*Bucket)(nil)

// Open makes a Bucket; nothing is sent before it is used. ca has certificates
// beside those of cfg.EndpointCA.
func Open(cfg config.S3, ca []byte) (*Bucket, error) {
	transport, err := transport(cfg, ca)
	if err != nil {
		return nil, err
	}
	keys := credentials.NewStaticV4(cfg.AccessKey.Reveal(), cfg.SecretKey.Reveal(), cfg.SessionToken.Reveal())
	if cfg.AccessKey == "" {
		keys = credentials.NewIAM("") // the machine's own, in a cloud
	}
	lookup := map[string]minio.BucketLookupType{"dns": minio.BucketLookupDNS, "path": minio.BucketLookupPath}[cfg.BucketLookup]
	client, err := minio.New(cfg.Endpoint, &minio.Options{
		Creds: keys, Secure: !cfg.Insecure, Transport: transport, Region: cfg.Region, BucketLookup: lookup, MaxRetries: retries,
	})
	if err != nil {
		return nil, fmt.Errorf("s3-endpoint %s: %w", cfg.Endpoint, err)
	}
	return &Bucket{cfg: cfg, client: client}, nil
}

func transport(cfg config.S3, ca []byte) (*http.Transport, error) {
	t, err := minio.DefaultTransport(!cfg.Insecure)
	if err != nil {
		return nil, err
	}
	t.MaxIdleConns = 0
	t.IdleConnTimeout = 5 * time.Second // uses are hours apart
	if cfg.Insecure {
		return t, nil
	}
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	t.TLSClientConfig.InsecureSkipVerify = cfg.SkipVerify //nolint:gosec // the administrator asked for it
	if cfg.EndpointCA != "" {
		file, err := os.ReadFile(cfg.EndpointCA)
		if err != nil {
			return nil, fmt.Errorf("s3-endpoint-ca: %w", err)
		}
		ca = append(ca, file...)
	}
	if len(ca) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(ca) {
			return nil, errors.New("s3-endpoint-ca: there is no certificate in it")
		}
		t.TLSClientConfig.RootCAs = pool
	}
	return t, nil
}

// String implements snapshot.Remote.
func (b *Bucket) String() string { return "s3://" + path.Join(b.cfg.Bucket, b.cfg.Folder) }

func (b *Bucket) object(name string) string { return path.Join(b.cfg.Folder, name+snapshot.Suffix) }

// bounded is a context for one use of the bucket.
func (b *Bucket) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, b.cfg.Timeout)
}

// Put implements snapshot.Remote.
func (b *Bucket) Put(ctx context.Context, f *snapshot.File) (snapshot.Info, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	m := f.WithoutKeys() // they are in the file, and headers are bounded
	text, err := json.Marshal(m)
	if err != nil {
		return snapshot.Info{}, err
	}
	_, err = b.client.FPutObject(ctx, b.cfg.Bucket, b.object(m.Name), f.Path, minio.PutObjectOptions{
		ContentType: "application/octet-stream", NumThreads: 1, SendContentMd5: true,
		UserMetadata: map[string]string{about: base64.StdEncoding.EncodeToString(text)},
	})
	if err != nil {
		return snapshot.Info{}, b.explain("uploading "+m.Name, err)
	}
	return b.info(m.Name, f.Size, m.Created, &m), nil
}

func (b *Bucket) info(name string, size int64, created time.Time, m *snapshot.Metadata) snapshot.Info {
	i := snapshot.Info{Name: name, Place: snapshot.S3, Location: b.String() + "/" + name + snapshot.Suffix, Size: size, Created: created.UTC(), Metadata: m}
	if m != nil {
		i.Node, i.Created = m.Node, m.Created
	}
	return i
}

// List implements snapshot.Remote.
func (b *Bucket) List(ctx context.Context) ([]snapshot.Info, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	folder := b.object("")
	folder = strings.TrimSuffix(folder, snapshot.Suffix)
	var all []snapshot.Info
	for o := range b.client.ListObjects(ctx, b.cfg.Bucket, minio.ListObjectsOptions{Prefix: folder}) {
		if o.Err != nil {
			return nil, b.explain("listing the snapshots", o.Err)
		}
		name, ok := strings.CutSuffix(strings.TrimPrefix(o.Key, folder), snapshot.Suffix)
		if !ok || name == "" || strings.Contains(name, "/") {
			continue
		}
		all = append(all, b.info(name, o.Size, o.LastModified, b.metadata(ctx, o.Key)))
	}
	return all, nil
}

// metadata is nil where the object has none that can be understood: somebody
// else may have put it there.
func (b *Bucket) metadata(ctx context.Context, key string) *snapshot.Metadata {
	stat, err := b.client.StatObject(ctx, b.cfg.Bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return nil
	}
	var m snapshot.Metadata
	text, err := base64.StdEncoding.DecodeString(stat.Metadata.Get("X-Amz-Meta-" + about))
	if err != nil || json.Unmarshal(text, &m) != nil {
		return nil
	}
	return &m
}

// Get implements snapshot.Remote.
func (b *Bucket) Get(ctx context.Context, name string, to *os.File) (found bool, err error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	o, err := b.client.GetObject(ctx, b.cfg.Bucket, b.object(strings.TrimSuffix(name, snapshot.Suffix)), minio.GetObjectOptions{})
	if err != nil {
		return false, b.explain("downloading "+name, err)
	}
	defer o.Close()
	if _, err := o.Stat(); minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return false, nil
	}
	if _, err := to.ReadFrom(o); err != nil {
		return true, b.explain("downloading "+name, err)
	}
	return true, nil
}

// Delete implements snapshot.Remote.
func (b *Bucket) Delete(ctx context.Context, name string) (found bool, err error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	key := b.object(strings.TrimSuffix(name, snapshot.Suffix))
	if _, err := b.client.StatObject(ctx, b.cfg.Bucket, key, minio.StatObjectOptions{}); minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return false, nil
	}
	if err := b.client.RemoveObject(ctx, b.cfg.Bucket, key, minio.RemoveObjectOptions{}); err != nil {
		return true, b.explain("deleting "+name, err)
	}
	return true, nil
}

// explain names the setting that may be wrong.
func (b *Bucket) explain(what string, err error) error {
	hint := ""
	switch minio.ToErrorResponse(err).Code {
	case minio.NoSuchBucket:
		hint = "; there is no bucket " + b.cfg.Bucket + ": make it, or correct s3-bucket"
	case minio.AccessDenied, "InvalidAccessKeyId", "SignatureDoesNotMatch":
		hint = "; look at s3-access-key, s3-secret-key and what they may do"
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		hint = "; name the CA of its certificate with s3-endpoint-ca"
	}
	if errors.Is(err, context.DeadlineExceeded) {
		hint = fmt.Sprintf("; it took longer than s3-timeout, %s", b.cfg.Timeout)
	}
	return fmt.Errorf("%s at %s on %s: %w%s", what, b, b.cfg.Endpoint, err, hint)
}
