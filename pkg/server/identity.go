package server

import (
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/skiff-k8s/skiff/pkg/pki"
)

// The identities of in-process clients, the same ones that each component has
// when it runs on its own, so that RBAC, audit and fairness treat them alike.
// The node's are also the names in a node's certificates.

// kubeDNSUser keeps the Service kube-dns and its EndpointSlices.
const kubeDNSUser = "skiff:kube-dns"

// joinUser lets nodes join: it reads bootstrap tokens and keeps nodes' passwords.
const joinUser = "skiff:join"

// cloudControllerUser completes nodes.
const cloudControllerUser = "skiff:cloud-controller"

// encryptionUser has Secrets written anew when their encryption changes.
const encryptionUser = "skiff:secrets-encryption"

// membersUser takes members of etcd off the list whose Node was removed.
const membersUser = "skiff:etcd-members"

// tunnelUser finds out which node an address belongs to.
const tunnelUser = "skiff:tunnel"

// snapshotUser shows snapshots in the cluster.
const snapshotUser = "skiff:snapshots"

func identity(name string, groups ...string) user.Info {
	return &user.DefaultInfo{Name: name, Groups: append(groups, user.AllAuthenticated)}
}

func schedulerIdentity() user.Info { return identity(user.KubeScheduler) }
func kubeProxy() user.Info         { return identity(pki.ProxyUser) }
func kubeDNS() user.Info           { return identity(kubeDNSUser) }
func joining() user.Info           { return identity(joinUser) }
func cloudController() user.Info   { return identity(cloudControllerUser) }
func membersKeeper() user.Info     { return identity(membersUser) }
func tunnelling() user.Info        { return identity(tunnelUser) }
func encrypting() user.Info        { return identity(encryptionUser) }
func snapshots() user.Info         { return identity(snapshotUser) }
func superuser() user.Info         { return identity("system:skiff", user.SystemPrivilegedGroup) }
func kubeletOf(node string) user.Info {
	return identity(pki.NodeUserPrefix+node, pki.NodeGroup)
}
func nodeAgent(node string) user.Info {
	return identity(pki.NodeAgentUserPrefix+node, pki.NodeAgentGroup)
}
