package join

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/protocol"
)

// saved is the file of layout.ClusterConfig.
type saved struct {
	// Node is the name that the machine joined under.
	Node    string                 `json:"node"`
	Cluster protocol.ClusterConfig `json:"cluster"`
}

// save keeps what the servers said. The file has no key and no token in it, but
// says where the cluster is, so it is root's alone.
func save(l layout.Layout, node string, c protocol.ClusterConfig) error {
	data, err := json.MarshalIndent(saved{node, c}, "", "  ")
	if err != nil {
		return fmt.Errorf("keeping the cluster's configuration: %w", err)
	}
	_, err = atomicfile.WriteIfChanged(l.ClusterConfig(), append(data, '\n'), 0o600)
	return err
}

// Load is what a machine knows that has joined under this name before, so that
// it can start while no server answers: the cluster's configuration, with all
// certificates there and good at the time now. The error says why it has to
// Join again; it is fs.ErrNotExist when it never has.
func Load(l layout.Layout, nodeName string, now time.Time) (protocol.ClusterConfig, error) {
	data, err := os.ReadFile(l.ClusterConfig())
	if err != nil {
		return protocol.ClusterConfig{}, fmt.Errorf("reading what the servers said of the cluster: %w", err)
	}
	var s saved
	if err := json.Unmarshal(data, &s); err != nil {
		return protocol.ClusterConfig{}, fmt.Errorf("%s is damaged: %w", l.ClusterConfig(), err)
	}
	if s.Node != nodeName {
		return protocol.ClusterConfig{}, fmt.Errorf("this machine joined as node %s and is to be %s now", s.Node, nodeName)
	}
	status, err := pki.ReadNode(l, nodeName)
	if err != nil {
		return protocol.ClusterConfig{}, err
	}
	if !now.Before(status.Expires) {
		return protocol.ClusterConfig{}, fmt.Errorf("a certificate of the node expired at %s", status.Expires.Format(time.RFC3339))
	}
	return s.Cluster, nil
}
