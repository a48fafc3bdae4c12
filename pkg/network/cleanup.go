package network

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// Cleanup removes everything that the pod network leaves on a host when Skiff
// stops: links of pods, the bridge, flannel's devices, packet filter rules and
// the record of addresses. It is for uninstalling and for tests, when no pod
// runs any more. What is not there is no error.
func Cleanup(ctx context.Context, l layout.Layout) error {
	veths, err := ports(bridgeName)
	c := &Component{cfg: Config{Layout: l}}
	all := []error{
		err,
		c.removeCNI(),
		removeLinks(append(veths, bridgeName)),
		removeLinks(flannelLinks()),
		removeRules(ctx),
	}
	if err := os.RemoveAll(l.CNIState()); err != nil {
		all = append(all, fmt.Errorf("remove the record of pod addresses: %w", err))
	}
	return errors.Join(all...)
}
