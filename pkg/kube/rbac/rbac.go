// Package rbac makes the roles and bindings that Skiff's own parts need beyond
// upstream's bootstrap policy. It is imported by the wiring only.
package rbac

import (
	"context"
	"fmt"

	"github.com/sirupsen/logrus"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/component-helpers/auth/rbac/reconciliation"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// Grant gives Subjects what ClusterRules say in the whole cluster and what
// SystemRules say in kube-system, by roles called Name.
type Grant struct {
	Name         string
	Subjects     []rbacv1.Subject
	ClusterRules []rbacv1.PolicyRule
	SystemRules  []rbacv1.PolicyRule
}

// Policy is everything that has to be there.
type Policy struct {
	Grants   []Grant
	Roles    []rbacv1.ClusterRole
	Bindings []rbacv1.ClusterRoleBinding
}

// User is the subject of a user's name.
func User(name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}
}

// Group is the subject of a group's name.
func Group(name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: name}
}

// New makes the component. It is ready when the policy is in force; on a
// start where it was in force already it reads and writes nothing. client must
// be allowed to give every permission.
func New(p Policy, client *rest.Config, log *logrus.Entry) component.Component {
	return component.Func("rbac", func(ctx context.Context, ready func()) error {
		c, err := kubernetes.NewForConfig(client)
		if err != nil {
			return fmt.Errorf("the client that makes roles: %w", err)
		}
		if err := apply(p.expand(), c); err != nil {
			return err
		}
		ready()
		<-ctx.Done()
		return nil
	})
}

// objects is a Policy in Kubernetes' terms.
type objects struct {
	clusterRoles    []rbacv1.ClusterRole
	clusterBindings []rbacv1.ClusterRoleBinding
	roles           []rbacv1.Role
	bindings        []rbacv1.RoleBinding
}

func (p Policy) expand() objects {
	o := objects{clusterRoles: p.Roles, clusterBindings: p.Bindings}
	for _, g := range p.Grants {
		if len(g.ClusterRules) > 0 {
			meta := metav1.ObjectMeta{Name: g.Name}
			o.clusterRoles = append(o.clusterRoles, rbacv1.ClusterRole{ObjectMeta: meta, Rules: g.ClusterRules})
			o.clusterBindings = append(o.clusterBindings, rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: roleRef("ClusterRole", g.Name), Subjects: g.Subjects})
		}
		if len(g.SystemRules) > 0 {
			meta := metav1.ObjectMeta{Name: g.Name, Namespace: metav1.NamespaceSystem}
			o.roles = append(o.roles, rbacv1.Role{ObjectMeta: meta, Rules: g.SystemRules})
			o.bindings = append(o.bindings, rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: roleRef("Role", g.Name), Subjects: g.Subjects})
		}
	}
	return o
}

func roleRef(kind, name string) rbacv1.RoleRef {
	return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}
}

// apply uses the reconciliation that upstream uses for its own bootstrap
// policy: what is there already and covers the rules is left alone.
func apply(o objects, c kubernetes.Interface) error {
	api, namespaces := c.RbacV1(), c.CoreV1().Namespaces()
	for i := range o.clusterRoles {
		if err := reconcileRole(reconciliation.ClusterRoleRuleOwner{ClusterRole: &o.clusterRoles[i]},
			reconciliation.ClusterRoleModifier{Client: api.ClusterRoles()}); err != nil {
			return err
		}
	}
	for i := range o.roles {
		if err := reconcileRole(reconciliation.RoleRuleOwner{Role: &o.roles[i]},
			reconciliation.RoleModifier{Client: api, NamespaceClient: namespaces}); err != nil {
			return err
		}
	}
	for i := range o.clusterBindings {
		if err := reconcileBinding(reconciliation.ClusterRoleBindingAdapter{ClusterRoleBinding: &o.clusterBindings[i]},
			reconciliation.ClusterRoleBindingClientAdapter{Client: api.ClusterRoleBindings()}); err != nil {
			return err
		}
	}
	for i := range o.bindings {
		if err := reconcileBinding(reconciliation.RoleBindingAdapter{RoleBinding: &o.bindings[i]},
			reconciliation.RoleBindingClientAdapter{Client: api, NamespaceClient: namespaces}); err != nil {
			return err
		}
	}
	return nil
}

func reconcileRole(role reconciliation.RuleOwner, client reconciliation.RuleOwnerModifier) error {
	o := reconciliation.ReconcileRoleOptions{Role: role, Client: client, Confirm: true, RemoveExtraPermissions: true}
	if _, err := o.Run(); err != nil {
		return fmt.Errorf("making the role %s: %w", role.GetName(), err)
	}
	return nil
}

func reconcileBinding(b reconciliation.RoleBinding, client reconciliation.RoleBindingModifier) error {
	o := reconciliation.ReconcileRoleBindingOptions{RoleBinding: b, Client: client, Confirm: true, RemoveExtraSubjects: true}
	if _, err := o.Run(); err != nil {
		return fmt.Errorf("making the role binding %s: %w", b.GetName(), err)
	}
	return nil
}
