package pki

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Roles and bindings that the identities of this package need beyond what
// upstream makes at the start of an API server. They are small and constant;
// whoever starts the API server applies them.
//
// The node agent may read what the pod network, network policy and DNS are
// made of, and write the status of nodes, where flannel leaves its lease.

// ClusterRoles are the roles to be made.
func ClusterRoles() []rbacv1.ClusterRole {
	read := []string{"get", "list", "watch"}
	return []rbacv1.ClusterRole{{
		ObjectMeta: metav1.ObjectMeta{Name: "skiff:node"},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"nodes", "pods", "namespaces", "services"}, Verbs: read},
			{APIGroups: []string{""}, Resources: []string{"nodes/status"}, Verbs: []string{"patch"}},
			{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: read},
			{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"networkpolicies"}, Verbs: read},
		},
	}}
}

// ClusterRoleBindings are the bindings to be made.
func ClusterRoleBindings() []rbacv1.ClusterRoleBinding {
	role := func(name string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}
	}
	return []rbacv1.ClusterRoleBinding{{
		ObjectMeta: metav1.ObjectMeta{Name: "skiff:node"},
		RoleRef:    role("skiff:node"),
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: NodeAgentGroup}},
	}, {
		ObjectMeta: metav1.ObjectMeta{Name: "skiff:kube-apiserver-kubelet-admin"},
		RoleRef:    role("system:kubelet-api-admin"),
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: KubeletClientUser}},
	}}
}
