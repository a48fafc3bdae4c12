package tunnel

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// syncTimeout bounds how long a connection waits for the list of nodes, which
// the first agent's connection has read.
const syncTimeout = 5 * time.Second

// way is how something is reached through a tunnel: the session, and what to
// ask the agent for.
type way struct {
	session *session
	target  string
}

// DialContext connects to something in the cluster: a kubelet, a pod, a
// Service, by the tunnel that leads there or else directly. An agent that
// reconnects at this moment is not taken for one without a tunnel: whichever is
// there first is used.
func (s *Server) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	var direct chan result
	dialing, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		appeared := s.first()
		if w, found := s.find(ctx, address); found {
			if direct != nil {
				cancel()
				go func() {
					if r := <-direct; r.conn != nil {
						_ = r.conn.Close() // nobody has used it
					}
				}()
			}
			return w.session.dial(ctx, w.target, address)
		}
		if direct == nil {
			direct = make(chan result, 1)
			go func() {
				c, err := s.direct(dialing, network, address)
				direct <- result{c, err}
			}()
		}
		select {
		case r := <-direct: // also when ctx ends
			return r.conn, r.err
		case <-appeared:
		}
	}
}

// find is the way to an address, if it leads through a tunnel that is there.
func (s *Server) find(ctx context.Context, address string) (way, bool) {
	if s.anySession() == nil {
		return way{}, false
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || !s.nodes.wait(ctx, syncTimeout) {
		return way{}, false
	}
	addr, _ := netip.ParseAddr(host) // a name gives the zero address, which is in no range
	if n, known := s.nodes.at(host); known {
		if n.kubeletPort == port {
			return s.by(n.name, kubeletTarget)
		}
		if !s.cfg.Mode.pods() || !addr.IsValid() {
			return way{}, false
		}
		return s.by(n.name, address)
	}
	if s.cfg.Mode.pods() {
		if node, known := s.nodes.ofPod(addr); known {
			return s.by(node, address)
		}
	}
	if s.cfg.Mode == ModeCluster && (within(s.cfg.ServiceCIDRs, addr) || within(s.cfg.ClusterCIDRs, addr)) {
		session := s.anySession()
		return way{session, address}, session != nil
	}
	return way{}, false
}

func (s *Server) by(node, target string) (way, bool) {
	if node == s.cfg.LocalNode {
		return way{}, false
	}
	session := s.session(node)
	return way{session, target}, session != nil
}

func within(ranges []netip.Prefix, addr netip.Addr) bool {
	for _, r := range ranges {
		if r.Contains(addr) {
			return true
		}
	}
	return false
}
