package framework

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/skiff-k8s/skiff/tests/framework/nameserver"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// Cluster is several hosts on one network. Its methods are safe for concurrent
// use.
type Cluster struct {
	Names *nameserver.Server // the upstream of all hosts

	suite   *Suite
	network *network

	mu    sync.Mutex
	hosts []*Host
}

// network is a bridge with the nameserver of its hosts.
type network struct {
	*nshost.Network
	names *nameserver.Server
}

func (s *Suite) makeNetwork(families []nshost.Family) (*network, error) {
	n, err := nshost.NewNetwork(fmt.Sprintf("%sn%d", nshost.LinkName(s.run), s.number()), families...)
	if err != nil {
		return nil, err
	}
	names, err := nameserver.Listen(n.Gateway())
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return &network{Network: n, names: names}, nil
}

func (n *network) close() error { return errors.Join(n.names.Close(), n.Close()) }

// NewCluster makes a network that is removed, with its hosts, at the end of
// the test. Its hosts have an address of each family, the first one being that
// which Host.Address gives; without any it is IPv4 alone.
func (s *Suite) NewCluster(t testing.TB, families ...nshost.Family) *Cluster {
	t.Helper()
	s.Require(t)
	c, err := s.makeCluster(families)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() || keepAlways() {
			c.dump(t.Name(), t.Log)
		}
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// NewSharedCluster makes a network that is removed, with its hosts, after all
// tests.
func (s *Suite) NewSharedCluster(families ...nshost.Family) (*Cluster, error) {
	c, err := s.makeCluster(families)
	if err == nil {
		s.share(c)
	}
	return c, err
}

func (s *Suite) makeCluster(families []nshost.Family) (*Cluster, error) {
	n, err := s.makeNetwork(families)
	if err != nil {
		return nil, err
	}
	return &Cluster{Names: n.names, suite: s, network: n}, nil
}

// NewHost makes a host with a name on the cluster's network. It lives as long
// as the cluster.
func (c *Cluster) NewHost(t testing.TB, name string) *Host {
	t.Helper()
	h, err := c.AddHost(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// AddHost is NewHost outside of a test.
func (c *Cluster) AddHost(ctx context.Context, name string) (*Host, error) {
	h, err := c.suite.makeHostOn(ctx, c.network, name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hosts = append(c.hosts, h)
	return h, nil
}

// Hosts are the cluster's hosts in the order in which they were made.
func (c *Cluster) Hosts() []*Host {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*Host(nil), c.hosts...)
}

// dump keeps the evidence of all hosts, of those that are down too.
func (c *Cluster) dump(test string, say func(...any)) {
	for _, h := range c.Hosts() {
		h.dump(test, say)
	}
}

// close ends all hosts at once: each may take the kernel seconds.
func (c *Cluster) close() error {
	hosts := c.Hosts()
	errs := make([]error, len(hosts))
	var closing sync.WaitGroup
	for i, h := range hosts {
		closing.Go(func() { errs[i] = h.close() })
	}
	closing.Wait()
	return errors.Join(append(errs, c.network.close())...)
}
