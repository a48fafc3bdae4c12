package controllermanager

import (
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/controller-manager/pkg/clientbuilder"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// rootClients gives every caller the controller manager's own identity.
type rootClients struct{ config *rest.Config }

var _ clientbuilder.ControllerClientBuilder = rootClients{}

// Config implements clientbuilder.ControllerClientBuilder.
func (b rootClients) Config(name string) (*rest.Config, error) {
	c := rest.CopyConfig(b.config)
	return rest.AddUserAgent(c, name), nil
}

// ConfigOrDie implements clientbuilder.ControllerClientBuilder; it can't fail.
func (b rootClients) ConfigOrDie(name string) *rest.Config { return must(b.Config(name)) }

// Client implements clientbuilder.ControllerClientBuilder.
func (b rootClients) Client(name string) (kubernetes.Interface, error) { return newClient(b, name) }

// ClientOrDie implements clientbuilder.ControllerClientBuilder; it can't fail.
func (b rootClients) ClientOrDie(name string) kubernetes.Interface { return must(newClient(b, name)) }

// DiscoveryClient implements clientbuilder.ControllerClientBuilder.
func (b rootClients) DiscoveryClient(name string) (discovery.DiscoveryInterface, error) {
	return newDiscovery(b, name)
}

// DiscoveryClientOrDie implements clientbuilder.ControllerClientBuilder; it can't fail.
func (b rootClients) DiscoveryClientOrDie(name string) discovery.DiscoveryInterface {
	return must(newDiscovery(b, name))
}

// serviceAccountClients gives each controller the identity of its service
// account in kube-system, to which RBAC's bootstrap policy binds just what
// that controller may do. Upstream fetches a token for each; in memory the
// identity is stated, and there is no token to wait for, store or renew.
type serviceAccountClients struct{ client ClientFor }

var _ clientbuilder.ControllerClientBuilder = serviceAccountClients{}

// Config implements clientbuilder.ControllerClientBuilder.
func (b serviceAccountClients) Config(name string) (*rest.Config, error) {
	return b.client(serviceAccount(name)), nil
}

// ConfigOrDie implements clientbuilder.ControllerClientBuilder; it can't fail.
func (b serviceAccountClients) ConfigOrDie(name string) *rest.Config { return must(b.Config(name)) }

// Client implements clientbuilder.ControllerClientBuilder.
func (b serviceAccountClients) Client(name string) (kubernetes.Interface, error) {
	return newClient(b, name)
}

// ClientOrDie implements clientbuilder.ControllerClientBuilder; it can't fail.
func (b serviceAccountClients) ClientOrDie(name string) kubernetes.Interface {
	return must(newClient(b, name))
}

// DiscoveryClient implements clientbuilder.ControllerClientBuilder.
func (b serviceAccountClients) DiscoveryClient(name string) (discovery.DiscoveryInterface, error) {
	return newDiscovery(b, name)
}

// DiscoveryClientOrDie implements clientbuilder.ControllerClientBuilder; it can't fail.
func (b serviceAccountClients) DiscoveryClientOrDie(name string) discovery.DiscoveryInterface {
	return must(newDiscovery(b, name))
}

func serviceAccount(name string) user.Info {
	info := serviceaccount.UserInfo(metav1.NamespaceSystem, name, "").(*user.DefaultInfo)
	info.Groups = append(info.Groups, user.AllAuthenticated)
	return info
}

type configBuilder interface {
	Config(name string) (*rest.Config, error)
}

func newClient(b configBuilder, name string) (kubernetes.Interface, error) {
	c, err := b.Config(name)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(c)
}

func newDiscovery(b configBuilder, name string) (discovery.DiscoveryInterface, error) {
	c, err := b.Config(name)
	if err != nil {
		return nil, err
	}
	return discovery.NewDiscoveryClientForConfig(c)
}

// must serves the OrDie half of upstream's interface: building a client for an
// in-memory configuration has no way to fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
