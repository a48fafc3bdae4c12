package server

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/sirupsen/logrus"
	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skiff-k8s/skiff/pkg/bootstrap"
	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/election"
	"github.com/skiff-k8s/skiff/pkg/kube/globals"
	"github.com/skiff-k8s/skiff/pkg/kube/inproc"
	"github.com/skiff-k8s/skiff/pkg/snapshot"
	"github.com/skiff-k8s/skiff/pkg/snapshot/s3"
	"github.com/skiff-k8s/skiff/pkg/version"
)

// keeper makes what keeps the snapshots of a running server.
func (p *parts) keeper(api *inproc.Switchboard) (*snapshot.Keeper, error) {
	remote := bucket
	if p.cfg.Snapshots.S3.Bucket == "" {
		client, err := kubernetes.NewForConfig(api.Config(snapshots()))
		if err != nil {
			return nil, fmt.Errorf("the client that reads the settings of a bucket: %w", err)
		}
		remote = func(ctx context.Context, cfg config.S3) (snapshot.Remote, error) {
			return bucketOfSecret(ctx, client, cfg)
		}
	}
	// What the client is made from is set before anything runs.
	source := func() (*clientv3.Client, error) { return p.client() }
	return newKeeper(p.cfg, source, p.tokens.Password, remote, p.logs.For("snapshots"))
}

// addSnapshots adds what makes snapshots on a schedule and what shows them.
func (p *parts) addSnapshots(g *component.Group, policy component.Handle, api *inproc.Switchboard, k *snapshot.Keeper) error {
	log := p.logs.For("snapshots")
	if err := globals.Expose(k.Metrics()...); err != nil {
		return err
	}
	shown, err := snapshot.NewObjects(k, api.Config(snapshots()), log)
	if err != nil {
		return err
	}
	g.Add(shown, policy)
	if p.cfg.Snapshots.Disable {
		return nil
	}
	client, err := kubernetes.NewForConfig(api.Config(snapshots()))
	if err != nil {
		return fmt.Errorf("the client that tells of failed snapshots: %w", err)
	}
	schedule, err := snapshot.NewSchedule(k, p.cfg.Snapshots.Schedule, p.certs.Born, snapshot.TellNode(client, p.cfg.Node.Name), log)
	if err != nil {
		return err
	}
	g.Add(schedule, policy)
	return nil
}

// opener opens the second place for snapshots.
type opener func(context.Context, config.S3) (snapshot.Remote, error)

// newKeeper makes what keeps snapshots. password is the server token's.
func newKeeper(cfg config.Server, source func() (*clientv3.Client, error), password func() string, open opener, log *logrus.Entry) (*snapshot.Keeper, error) {
	about := snapshot.Metadata{
		Node: cfg.Node.Name, Skiff: version.Version, Kubernetes: version.Kubernetes, Datastore: string(datastoreKind(cfg)),
	}
	s := cfg.Snapshots
	c := snapshot.Config{
		Directory: s.Directory, Prefix: s.Name, Retention: s.Retention, RemoteRetention: s.S3.Retention,
		About: about, Source: source, Keys: clusterKeys(cfg),
		Gather: func() (bootstrap.Data, error) { return bootstrap.Gather(cfg.Layout) },
		Seal:   func(keys bootstrap.Data) ([]byte, error) { return bootstrap.Seal(password(), keys) },
	}
	if s.S3.Enable {
		c.Remote = func(ctx context.Context) (snapshot.Remote, error) { return open(ctx, s.S3) }
	}
	return snapshot.New(c, log), nil
}

// clusterKeys are the keys of a cluster. The health key is made by each start, the
// lease of whoever leads would only be waited for, and the cluster's keys are
// sealed beside.
func clusterKeys(cfg config.Server) snapshot.Keys {
	api := apiPrefix(cfg)
	return snapshot.Keys{
		Prefixes: []string{api, path.Dir(bootstrap.Key) + "/"},
		Omit:     []string{api + "health", api + "leases/" + metav1.NamespaceSystem + "/" + election.LeaseName, bootstrap.Key},
	}
}

// apiPrefix is that of the API's objects in the datastore.
func apiPrefix(cfg config.Server) string {
	prefix := "/registry"
	for _, arg := range cfg.APIServer.Extra {
		if text, ok := strings.CutPrefix(arg, "etcd-prefix="); ok {
			prefix = text
		}
	}
	return path.Join("/", prefix) + "/"
}

// bucket opens the bucket of the settings.
func bucket(_ context.Context, cfg config.S3) (snapshot.Remote, error) {
	if cfg.Bucket == "" {
		return nil, fmt.Errorf("the Secret %s is read by a running server only: give the bucket and its keys with --s3-bucket, --s3-access-key and --s3-secret-key", cfg.ConfigSecret)
	}
	b, err := s3.Open(cfg, nil)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// bucketOfSecret opens the bucket of a Secret, as it is now.
func bucketOfSecret(ctx context.Context, client kubernetes.Interface, cfg config.S3) (snapshot.Remote, error) {
	name := metav1.NamespaceSystem + "/" + cfg.ConfigSecret
	secret, err := client.CoreV1().Secrets(metav1.NamespaceSystem).Get(ctx, cfg.ConfigSecret, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading the settings of the bucket from the Secret %s: %w", name, err)
	}
	full, ca, err := s3.FromSecret(cfg, secret.Data)
	if err != nil {
		return nil, fmt.Errorf("the Secret %s: %w", name, err)
	}
	b, err := s3.Open(full, ca)
	if err != nil {
		return nil, fmt.Errorf("the Secret %s: %w", name, err)
	}
	return b, nil
}
