package server

import (
	"net"
	"net/http"
	"strconv"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/skiff-k8s/skiff/pkg/agent"
	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/datastore/etcd"
	"github.com/skiff-k8s/skiff/pkg/dns"
	"github.com/skiff-k8s/skiff/pkg/encryption"
	"github.com/skiff-k8s/skiff/pkg/joinapi"
	"github.com/skiff-k8s/skiff/pkg/kube/apiserver"
	"github.com/skiff-k8s/skiff/pkg/kube/cloudcontroller"
	"github.com/skiff-k8s/skiff/pkg/kube/controllermanager"
	"github.com/skiff-k8s/skiff/pkg/kube/globals"
	"github.com/skiff-k8s/skiff/pkg/kube/rbac"
	"github.com/skiff-k8s/skiff/pkg/kube/scheduler"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/snapshot"
	"github.com/skiff-k8s/skiff/pkg/tunnel"
	"github.com/skiff-k8s/skiff/pkg/version"
)

// disableDNS is the name of DNS in --disable: k3s' own.
const disableDNS = "coredns"

// Each function below says what one component is told.

func (p *parts) certificates() pki.Config {
	names := append([]string{p.cfg.Node.Name}, p.cfg.Node.InternalDNS...)
	names = append(names, p.cfg.Node.ExternalDNS...)
	c := pki.Config{Server: &pki.ServerConfig{
		Layout:        p.cfg.Layout,
		Listener:      p.cfg.Listener,
		Kubeconfig:    p.cfg.Kubeconfig,
		ServiceCIDRs:  p.cfg.Network.ServiceCIDRs,
		ClusterDomain: p.cfg.Network.ClusterDomain,
		Etcd:          p.datastoreKind() == config.DatastoreEtcd,
		Names:         names,
		Addresses:     p.certified(p.host.Addresses).Server,
	}}
	if !p.cfg.DisableAgent {
		c.Node = &pki.NodeConfig{
			Layout:    p.cfg.Layout,
			Name:      p.cfg.Node.Name,
			Names:     names[1:],
			Addresses: p.certified(p.host.Addresses).Node,
			APIServer: pki.LocalURL(p.cfg.Listener),
		}
	}
	return c
}

func (p *parts) apiserver(store datastore, join http.Handler, tunnels *tunnel.Server) apiserver.Config {
	f := p.files
	c := apiserver.Config{
		Listener:          p.listener,
		AdvertiseAddress:  p.advertised(),
		AdvertisePort:     p.cfg.Listener.AdvertisePort,
		ServiceCIDRs:      p.cfg.Network.ServiceCIDRs,
		NodePortRange:     p.cfg.Network.NodePortRange,
		ClusterDomain:     p.cfg.Network.ClusterDomain,
		ServingCert:       f.Serving.Cert,
		ServingKey:        f.Serving.Key,
		ClientCA:          f.ClientCA.Cert,
		RequestHeaderCA:   f.RequestHeaderCA.Cert,
		ProxyClientCert:   f.AuthProxy.Cert,
		ProxyClientKey:    f.AuthProxy.Key,
		KubeletCA:         f.ServerCA.Cert,
		KubeletClientCert: f.KubeletClient.Cert,
		KubeletClientKey:  f.KubeletClient.Key,
		ServiceAccountKey: f.ServiceAccountKey,
		Encryption:        p.encryption,
		Etcd:              store.etcd,
		Single:            !store.shared,
		Pprof:             p.cfg.EnablePprof,
		ExtraArgs:         globals.WithoutFeatureGates(p.cfg.APIServer.Extra),
		Front:             front(p.serverCA, join, p.bursts.Request),
	}
	if store.members != nil {
		c.Forsaken = store.members.Leaderless
	}
	if p.tunnelMode() != tunnel.ModeDisabled {
		c.Egress = tunnels.DialContext
	}
	return c
}

func (p *parts) tunnelMode() tunnel.Mode { return tunnel.Mode(p.cfg.Network.EgressSelector) }

// tunnel is this server's end of the tunnels, behind the join API's
// authentication of nodes.
func (p *parts) tunnel() tunnel.ServerConfig {
	c := tunnel.ServerConfig{
		Mode:         p.tunnelMode(),
		ClusterCIDRs: p.cfg.Network.ClusterCIDRs,
		ServiceCIDRs: p.cfg.Network.ServiceCIDRs,
		Authorize: func(r *http.Request) (node string, ok bool) {
			node = protocol.NodeFrom(r.Context())
			return node, node != ""
		},
	}
	if !p.cfg.DisableAgent {
		c.LocalNode = p.cfg.Node.Name
	}
	return c
}

func (p *parts) controllers() controllermanager.Config {
	f := p.files
	return controllermanager.Config{
		ClusterCIDRs:      p.cfg.Network.ClusterCIDRs,
		ServiceCIDRs:      p.cfg.Network.ServiceCIDRs,
		ServiceAccountKey: f.ServiceAccountKey,
		ServerCA:          f.ServerCA.Cert,
		ClientCA:          f.ClientSigner,
		ClientCAKey:       f.ClientCA.Key,
		ServingCA:         f.ServerSigner,
		ServingCAKey:      f.ServerCA.Key,
		VolumePluginDir:   p.cfg.Layout.VolumePlugins(),
		Pprof:             p.cfg.EnablePprof,
		ExtraArgs:         globals.WithoutFeatureGates(p.cfg.ControllerManager.Extra),
	}
}

func (p *parts) scheduler() scheduler.Config {
	return scheduler.Config{Pprof: p.cfg.EnablePprof, ExtraArgs: globals.WithoutFeatureGates(p.cfg.Scheduler.Extra)}
}

func (p *parts) join(store datastore, tunnels, secrets, certificates http.Handler) joinapi.Config {
	c := joinapi.Config{
		Tokens:      p.tokens,
		Authorities: p.certs.Current,
		Serving:     p.certs.Serving,
		Admit:       p.admit(store),
		Rotate:      p.rotateToken(store),
		Handlers:    map[string]http.Handler{protocol.PathConnect: tunnels},
		AdminHandlers: map[string]http.Handler{
			protocol.PathEncryption:   secrets,
			protocol.PathCertificates: certificates,
		},
		Self: p.self(),
		Cluster: protocol.ClusterConfig{
			ServerVersion:          version.Kubernetes,
			DisableDNS:             p.cfg.Disabled(disableDNS),
			DisableKubeProxy:       p.cfg.DisableKubeProxy,
			DisableCloudController: p.cfg.DisableCloudController,
		},
	}
	c.Cluster.SetNetwork(p.cfg.Network)
	if !p.cfg.DisableAgent {
		c.OwnNode, c.OwnPassword = p.cfg.Node.Name, p.nodePassword
	}
	return c
}

// self is where other servers and agents find this one.
func (p *parts) self() string {
	return net.JoinHostPort(p.advertised().String(), strconv.Itoa(p.cfg.Listener.AdvertisePort))
}

func (p *parts) kubeDNS() dns.ServiceConfig {
	return dns.ServiceConfig{Addrs: p.cfg.Network.ClusterDNS}
}

// policy is what Skiff's own identities may do.
func (p *parts) policy() rbac.Policy {
	return rbac.Policy{
		Roles:    pki.ClusterRoles(),
		Bindings: pki.ClusterRoleBindings(),
		Grants: []rbac.Grant{{
			Name:         "skiff:dns",
			Subjects:     []rbacv1.Subject{rbac.Group(pki.NodeAgentGroup)},
			ClusterRules: dns.ClusterRules(),
			SystemRules:  dns.SystemRules(),
		}, {
			Name:         kubeDNSUser,
			Subjects:     []rbacv1.Subject{rbac.User(kubeDNSUser)},
			ClusterRules: dns.ServiceClusterRules(),
			SystemRules:  dns.ServiceSystemRules(),
		}, {
			Name:         joinUser,
			Subjects:     []rbacv1.Subject{rbac.User(joinUser)},
			ClusterRules: joinapi.ClusterRules(),
			SystemRules:  joinapi.SystemRules(),
		}, {
			Name:         cloudControllerUser,
			Subjects:     []rbacv1.Subject{rbac.User(cloudControllerUser)},
			ClusterRules: cloudcontroller.Rules(),
		}, {
			Name:         encryptionUser,
			Subjects:     []rbacv1.Subject{rbac.User(encryptionUser)},
			ClusterRules: encryption.Rules(),
		}, {
			Name:         membersUser,
			Subjects:     []rbacv1.Subject{rbac.User(membersUser)},
			ClusterRules: etcd.KeeperRules(),
		}, {
			Name:         tunnelUser,
			Subjects:     []rbacv1.Subject{rbac.User(tunnelUser)},
			ClusterRules: tunnel.ClusterRules(),
		}, {
			Name:         snapshotUser,
			Subjects:     []rbacv1.Subject{rbac.User(snapshotUser)},
			ClusterRules: snapshot.ClusterRules(),
			SystemRules:  snapshot.SystemRules(),
		}},
	}
}

func (p *parts) node(store datastore, clients agent.Clients) agent.Node {
	cfg := p.cfg.Node
	cfg.Kubelet.Extra = globals.WithoutFeatureGates(cfg.Kubelet.Extra)
	cfg.Proxy.Extra = globals.WithoutFeatureGates(cfg.Proxy.Extra)
	return agent.Node{
		Config:                 cfg,
		Network:                p.cfg.Network,
		Layout:                 p.cfg.Layout,
		Host:                   p.host,
		Helpers:                p.helpers,
		Files:                  pki.NodeFilesOf(p.cfg.Layout),
		Clients:                clients,
		Logs:                   p.logs,
		Pprof:                  p.cfg.EnablePprof,
		Alone:                  !store.shared, // as in Single
		DisableProxy:           p.cfg.DisableKubeProxy,
		DisableDNS:             p.cfg.Disabled(disableDNS),
		DisableCloudController: p.cfg.DisableCloudController,
	}
}

// controlPlaneLabels make `kubectl get nodes` show the role, and let pods be
// kept to, or from, servers. A kubelet may not give itself a role.
func controlPlaneLabels() map[string]string {
	return map[string]string{"node-role.kubernetes.io/control-plane": "true"}
}
