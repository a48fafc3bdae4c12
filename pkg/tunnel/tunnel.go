// Package tunnel lets servers reach what runs on agents' nodes though nobody
// can connect to those nodes: they are behind NAT or a firewall. Each agent
// keeps one TLS connection to each server, and the server opens HTTP/2 streams
// in the other direction over it, one for each connection that it wants.
// It is imported by the wiring only.
package tunnel

import (
	"fmt"
	"net/http"
	"time"
)

// upgrade is what an agent asks to switch to: HTTP/2 with the server as the client,
// which sends nothing but CONNECT.
const upgrade = "skiff-tunnel"

// kubeletTarget stands for the node's kubelet, wherever it listens, so that
// nothing else on the loopback interface can be asked for.
const kubeletTarget = "kubelet"

// Mode says what servers reach through tunnels.
type Mode string

// The modes, each with what the one before it has. What is not reached through
// a tunnel is connected to directly.
const (
	ModeDisabled Mode = "disabled" // nothing
	ModeAgent    Mode = "agent"    // kubelets
	ModePod      Mode = "pod"      // pods, through their node
	ModeCluster  Mode = "cluster"  // Services, and pods with addresses of any origin, through any node
)

// pods says whether pods are reached through the tunnel of their node.
func (m Mode) pods() bool { return m == ModePod || m == ModeCluster }

// Authorizer tells which node a request comes from. It answers false for
// everybody who has not proved to be one.
type Authorizer func(r *http.Request) (node string, ok bool)

const (
	// pingAfter and pingTimeout are for proxies on the way that forget idle
	// connections and for peers that hang; the kernel's keepalive notices
	// earlier what a network breaks. Agents ask, servers answer.
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second

	// connectTimeout bounds how long an agent tries to reach a server, and a
	// server to reach something on a node.
	connectTimeout = 30 * time.Second

	// Bounds of one stream: a frame, what may be under way to a slow reader,
	// and how many there may be.
	frameSize    = 32 << 10
	streamWindow = 512 << 10
	maxStreams   = 10_000
)

// refusal is the other side's "no".
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string {
	if r.text == "" {
		return fmt.Sprintf("%d %s", r.code, http.StatusText(r.code))
	}
	return r.text
}
