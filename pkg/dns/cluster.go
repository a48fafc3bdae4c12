package dns

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/kubernetes"
	"github.com/coredns/coredns/request"
	mdns "github.com/miekg/dns"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// syncWait is how long a look-up of a cluster name waits for the first complete
// view of the cluster: below the 5 s after which resolvers ask again, long
// enough for the first pods, which may ask before the API server is there.
const syncWait = 4 * time.Second

// cluster is CoreDNS' kubernetes plugin with its caches of Services,
// EndpointSlices and Namespaces. It outlives the Caddy instances, so that a
// change of configuration does not list the whole cluster again.
//
// The plugin's own directive is not used: it takes klog over and can be given
// an API server only by files.
type cluster struct {
	client *rest.Config
	synced chan struct{}   // closed when all caches are complete
	ctx    context.Context // of all requests; ended by stop
	end    context.CancelFunc

	mu     sync.Mutex
	plugin *kubernetes.Kubernetes // nil before the first setup
}

func newCluster(client *rest.Config) *cluster {
	ctx, end := context.WithCancel(context.Background())
	return &cluster{client: client, synced: make(chan struct{}), ctx: ctx, end: end}
}

// setupCluster reads the same stanza as the kubernetes directive.
func setupCluster(c *caddy.Controller) error {
	owner := ownerOf(c)
	if owner == nil {
		return plugin.Error(directiveCluster, errors.New("no server of Skiff's"))
	}
	c.Next()
	shared, err := owner.cluster.start(c)
	if err != nil {
		return plugin.Error(directiveCluster, err)
	}
	dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
		k := *shared // the copies share their caches
		k.Next = next
		return &clusterHandler{Kubernetes: k, cluster: owner.cluster}
	})
	return nil
}

// start makes the plugin and begins to watch, the first time that it is called.
func (c *cluster) start(controller *caddy.Controller) (*kubernetes.Kubernetes, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.plugin != nil {
		return c.plugin, nil
	}
	k, err := kubernetes.ParseStanza(controller)
	if err != nil {
		return nil, err
	}
	k.ClientConfig = inMemory{c.client}
	if _, _, err := k.InitKubeCache(c.ctx); err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	c.plugin = k
	go k.APIConn.Run()
	go c.awaitSync(k.APIConn.HasSynced)
	return k, nil
}

// awaitSync asks again and again because the plugin offers no event; it ends
// with the first complete view, a fraction of a second after the API server's
// first answer.
func (c *cluster) awaitSync(hasSynced func() bool) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !hasSynced() {
		select {
		case <-tick.C:
		case <-c.ctx.Done():
			return
		}
	}
	close(c.synced)
}

// stop ends the watches.
func (c *cluster) stop() {
	c.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.plugin != nil {
		_ = c.plugin.APIConn.Stop() // fails only when called twice
	}
}

// clusterHandler is one Caddy instance's view of the shared plugin.
type clusterHandler struct {
	kubernetes.Kubernetes
	cluster *cluster
}

// ServeDNS implements plugin.Handler. The plugin itself would answer SERVFAIL
// while its caches are incomplete, which resolvers pass on as a failure; so a
// query waits for a while first.
func (h *clusterHandler) ServeDNS(ctx context.Context, w mdns.ResponseWriter, r *mdns.Msg) (int, error) {
	state := request.Request{W: w, Req: r}
	if plugin.Zones(h.Zones).Matches(state.Name()) != "" {
		h.cluster.await(ctx)
	}
	return h.Kubernetes.ServeDNS(ctx, w, r)
}

func (c *cluster) await(ctx context.Context) {
	select {
	case <-c.synced:
		return
	default:
	}
	timer := time.NewTimer(syncWait)
	defer timer.Stop()
	select {
	case <-c.synced:
	case <-c.ctx.Done():
	case <-ctx.Done():
	case <-timer.C:
	}
}

// inMemory hands the plugin a configuration that is in no file.
type inMemory struct{ client *rest.Config }

var _ clientcmd.ClientConfig = inMemory{}

func (m inMemory) RawConfig() (clientcmdapi.Config, error) { return clientcmdapi.Config{}, nil }

// ClientConfig gives a copy, because the plugin writes rate limits into it.
func (m inMemory) ClientConfig() (*rest.Config, error)  { return rest.CopyConfig(m.client), nil }
func (m inMemory) Namespace() (string, bool, error)     { return "", false, nil }
func (m inMemory) ConfigAccess() clientcmd.ConfigAccess { return nil }
