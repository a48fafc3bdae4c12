package containerd

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/platforms"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
)

// Namespace is the containerd namespace of everything that belongs to Kubernetes.
const Namespace = "k8s.io"

// Services is access to the containerd in this process that needs no socket.
type Services struct {
	// Client lives as long as the component: do not close it. Contexts have to
	// name a namespace (namespaces.WithNamespace): only a client with a socket
	// has a default for that.
	Client *client.Client
	// RefreshImage makes the CRI see a changed image at once. The CRI would
	// hear of it by an event too, but only some time later.
	RefreshImage func(ctx context.Context, reference string) error

	metadata io.Closer
}

// handover carries Services out of containerd's plugin initialisation. It
// travels in the context given to the server, so that no variable is shared
// between two servers.
type handover struct{ services *Services }

type handoverKey struct{}

const handoverID = "skiff-handover"

func init() {
	registry.Register(&plugin.Registration{
		Type: plugins.InternalPlugin,
		ID:   handoverID,
		Requires: []plugin.Type{
			plugins.CRIServicePlugin,
			plugins.EventPlugin,
			plugins.LeasePlugin,
			plugins.MetadataPlugin,
			plugins.MountManagerPlugin,
			plugins.SandboxStorePlugin,
			plugins.ServicePlugin,
			plugins.TransferPlugin,
		},
		InitFn: handOver,
	})
}

func handOver(ic *plugin.InitContext) (any, error) {
	target, ok := ic.Context.Value(handoverKey{}).(*handover)
	if !ok {
		return nil, plugin.ErrSkipPlugin
	}
	c, err := client.New("",
		client.WithDefaultNamespace(Namespace),
		client.WithDefaultPlatform(platforms.Default()),
		client.WithInMemoryServices(ic))
	if err != nil {
		return nil, fmt.Errorf("make an in-process containerd client: %w", err)
	}
	images, err := ic.GetByID(plugins.CRIServicePlugin, "images")
	if err != nil {
		return nil, fmt.Errorf("find the CRI's image service: %w", err)
	}
	refresher, ok := images.(interface {
		UpdateImage(ctx context.Context, reference string) error
	})
	if !ok {
		return nil, fmt.Errorf("the CRI's image service %T has no UpdateImage", images)
	}
	metadata, err := ic.GetSingle(plugins.MetadataPlugin)
	if err != nil {
		return nil, fmt.Errorf("find the metadata database: %w", err)
	}
	target.services = &Services{Client: c, RefreshImage: refresher.UpdateImage}
	target.services.metadata, _ = metadata.(io.Closer)
	return target.services, nil
}
