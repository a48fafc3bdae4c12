package apiserver

import (
	"context"
	"slices"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/skiff-k8s/skiff/pkg/kube/inproc"
)

// settleSteps are the pauses between looks at a request that is refused: 155 ms
// in all, where the authorisers need a few to hear of what was just written.
var settleSteps = [...]time.Duration{
	5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond, 80 * time.Millisecond,
}

// settling lets requests of nodes, and of this process' own components, wait
// until the authorisers have heard of what the requests are about. They learn
// of pods and roles by watches, as their callers do, and a caller in this
// process is often first: a kubelet asks for a new pod's ConfigMap, a controller
// uses the role that was made a moment ago. It would take the refusal for final
// for a second, which is a second more for the start of a pod, or of Skiff.
type settling struct{ authorizer.Authorizer }

// Authorize implements authorizer.Authorizer. A request that is refused for
// good takes the sum of settleSteps longer.
func (s settling) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	decision, reason, err := s.Authorizer.Authorize(ctx, a)
	if decision == authorizer.DecisionAllow || !(fromNode(a.GetUser()) || inproc.Is(ctx)) {
		return decision, reason, err
	}
	for _, pause := range settleSteps {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return decision, reason, err
		}
		if decision, reason, err = s.Authorizer.Authorize(ctx, a); decision == authorizer.DecisionAllow {
			break
		}
	}
	return decision, reason, err
}

func fromNode(u user.Info) bool {
	return u != nil && slices.Contains(u.GetGroups(), user.NodesGroup)
}
