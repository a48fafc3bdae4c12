package apiserver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// graph allows everything from a time on, as the node authoriser does once it
// has heard of a pod.
type graph struct {
	from  time.Time
	looks int
}

func (g *graph) Authorize(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	g.looks++
	if time.Now().Before(g.from) {
		return authorizer.DecisionNoOpinion, "no relationship found", nil
	}
	return authorizer.DecisionAllow, "", nil
}

func TestSettling(t *testing.T) {
	node := &user.DefaultInfo{Name: "system:node:one", Groups: []string{user.NodesGroup}}
	person := &user.DefaultInfo{Name: "anna", Groups: []string{user.AllAuthenticated}}
	for _, tc := range []struct {
		name  string
		user  user.Info
		after time.Duration
		want  authorizer.Decision
		took  time.Duration
	}{
		{"a node's request that is allowed does not wait", node, 0, authorizer.DecisionAllow, 0},
		{"a node's request waits for the graph", node, 30 * time.Millisecond, authorizer.DecisionAllow, 35 * time.Millisecond},
		{"a node's request is refused in the end", node, time.Hour, authorizer.DecisionNoOpinion, 155 * time.Millisecond},
		{"anyone else is refused at once", person, time.Hour, authorizer.DecisionNoOpinion, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				s := settling{&graph{from: begin.Add(tc.after)}}
				got, _, err := s.Authorize(t.Context(), authorizer.AttributesRecord{User: tc.user})
				if err != nil || got != tc.want {
					t.Errorf("decision %v, %v: want %v", got, err, tc.want)
				}
				if took := time.Since(begin); took != tc.took {
					t.Errorf("took %v: want %v", took, tc.took)
				}
			})
		})
	}
}
