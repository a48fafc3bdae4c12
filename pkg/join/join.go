// Package join is a machine's side of joining a cluster: it finds out whom to
// trust, has certificates issued for keys that stay here, keeps what the
// servers say of the cluster, and renews all of it while the process runs. The
// wiring of agents and commands import it.
package join

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/token"
	"github.com/skiff-k8s/skiff/pkg/version"
)

// Config is what joining depends on. It never changes.
type Config struct {
	// Servers are URLs of servers, "https://192.0.2.1:6443"; they are tried
	// in turn.
	Servers []string
	// Token lets the machine in. After the first time it is only needed when
	// certificates have run out; the zero Token then ends in an error.
	Token  token.Token
	Layout layout.Layout

	// NodeName is the node's; Names are what else it is called by and
	// Addresses where servers reach it, inner and outer ones. Addresses that
	// other machines have, too, such as those of bridges, are refused.
	NodeName  string
	Names     []string
	Addresses []netip.Addr
	// APIServer is the URL in the node's kubeconfigs: that of the agent's own
	// load balancer, or of a server.
	APIServer string

	// Version is the agent's Kubernetes version; empty: this program's.
	Version string
	// Dial connects to a server, as net.Dialer.DialContext does, which it is
	// when nil. address is a host and port of Servers.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (c Config) node() pki.NodeConfig {
	return pki.NodeConfig{Layout: c.Layout, Name: c.NodeName, Names: c.Names, Addresses: c.Addresses, APIServer: c.APIServer}
}

func (c Config) version() string {
	if c.Version != "" {
		return c.Version
	}
	return version.Kubernetes
}

// Errors of this package that are about something to be mended by people, and
// that trying again does not mend.
var (
	// ErrRefused is in the chain of every refusal by a server.
	ErrRefused = errors.New("the server refused")
	// ErrOtherCluster says that the machine has joined another cluster before.
	ErrOtherCluster = errors.New("this machine belongs to another cluster")
)

const (
	// retryFirst and retryMost bound how soon a server that does not answer is
	// asked again.
	retryFirst = time.Second
	retryMost  = 30 * time.Second
	// attemptTimeout bounds one round of talking to one server.
	attemptTimeout = 20 * time.Second
)

// Join lets this machine into the cluster, again if it was there before, and
// leaves its certificates and kubeconfigs in pki.NodeFilesOf(cfg.Layout) and
// the cluster's configuration where Load finds it. While no server answers it
// waits, with a line in the log now and then, until ctx ends. A refusal is an
// error at once, which says what to do.
func Join(ctx context.Context, cfg Config, log *logrus.Entry) (protocol.ClusterConfig, error) {
	j, err := newJoiner(cfg, log)
	if err != nil {
		return protocol.ClusterConfig{}, err
	}
	var cluster protocol.ClusterConfig
	err = patiently(ctx, log, "node", func() error {
		cluster, err = j.round(ctx)
		return err
	})
	if err != nil {
		return protocol.ClusterConfig{}, err
	}
	log.Infof("Joined the cluster as node %s", cfg.NodeName)
	return cluster, nil
}

// patiently tries until it succeeds, or fails in a way that does not pass by
// itself, or ctx ends. what is the joining machine.
func patiently(ctx context.Context, log *logrus.Entry, what string, try func() error) error {
	wait := retryFirst
	for {
		err := try()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		again, temporary := errors.AsType[*temporaryError](err)
		if !temporary {
			return err
		}
		pause := max(wait, again.after)
		log.Warnf("Waiting for a server to let this %s join: %v; trying again in %s", what, err, pause.Round(time.Second))
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		wait = min(2*wait, retryMost)
	}
}

// sleep is a pause that ends with ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// joiner is what one machine joins with.
type joiner struct {
	cfg      Config
	servers  []string // host:port
	password string
	log      *logrus.Entry
	warned   bool // that the CA is not pinned
	keepKeys bool // certificates are asked for the keys that are there
}

func newJoiner(cfg Config, log *logrus.Entry) (*joiner, error) {
	j := &joiner{cfg: cfg, log: log}
	for _, text := range cfg.Servers {
		host, err := hostPort(text)
		if err != nil {
			return nil, err
		}
		j.servers = append(j.servers, host)
	}
	if len(j.servers) == 0 {
		return nil, errors.New("no server to join was named: set --server to the URL of one, like https://192.0.2.1:6443")
	}
	var err error
	if j.password, err = token.NodePassword(cfg.Layout); err != nil {
		return nil, err
	}
	return j, nil
}

// CheckURL says what is wrong with the URL of a server.
func CheckURL(text string) error {
	_, err := hostPort(text)
	return err
}

// hostPort takes a server's URL apart. Without a port it is the API's usual.
func hostPort(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.User != nil || u.RawQuery != "" {
		return "", fmt.Errorf("%q is not the URL of a server: write it like https://192.0.2.1:6443", text)
	}
	port := u.Port()
	if port == "" {
		port = "6443"
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

// round asks one server after the other. The first refusal counts, else the
// last failure.
func (j *joiner) round(ctx context.Context) (cluster protocol.ClusterConfig, err error) {
	for _, server := range j.servers {
		cluster, err = j.joinBy(ctx, server)
		if err == nil || ctx.Err() != nil {
			return cluster, err
		}
		if _, temporary := errors.AsType[*temporaryError](err); !temporary {
			return cluster, err
		}
	}
	return cluster, err
}

// joinBy joins by one server with the token.
func (j *joiner) joinBy(ctx context.Context, server string) (protocol.ClusterConfig, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	ca, err := j.trust(ctx, server)
	if err != nil {
		return protocol.ClusterConfig{}, err
	}
	if j.cfg.Token.Secret() == "" {
		if c, err := nodeClient(j.cfg); err == nil && c.certified {
			defer c.close()
			return j.certify(ctx, c, server)
		}
		return protocol.ClusterConfig{}, errors.New("a token is needed to join: read the cluster's on a server with sudo cat /var/lib/skiff/server/node-token, or make one with skiff token create, and give it by --token-file, SKIFF_TOKEN or --token")
	}
	c, err := newClient(j.cfg, ca, nil)
	if err != nil {
		return protocol.ClusterConfig{}, err
	}
	defer c.close()
	c.token = j.cfg.Token
	cluster, err := j.certify(ctx, c, server)
	if refusal, ok := errors.AsType[*RefusedError](err); ok && refusal.Reason == protocol.ReasonCredential {
		// The token may be one that expired, or was replaced, since the machine
		// joined with it: what it has got since then may do.
		if own, err := nodeClient(j.cfg); err == nil && own.certified {
			defer own.close()
			if cluster, err := j.certify(ctx, own, server); err == nil {
				return cluster, nil
			}
		}
	}
	return cluster, err
}

// certify has certificates issued and installs them.
func (j *joiner) certify(ctx context.Context, c *client, server string) (protocol.ClusterConfig, error) {
	keys, requests, err := pki.NewNodeKeys(j.cfg.node(), j.keepKeys)
	if err != nil {
		return protocol.ClusterConfig{}, err
	}
	set := protocol.NodeSet(requests)
	answer, err := j.ask(ctx, c, server, &set)
	if err != nil {
		return protocol.ClusterConfig{}, err
	}
	if answer.Certificates == nil {
		return protocol.ClusterConfig{}, fmt.Errorf("the server %s answered without certificates", server)
	}
	// The CA that was verified counts, and what it vouches for, not what an
	// answer calls one.
	ca, err := pki.Adopt(c.ca, []byte(answer.Cluster.ServerCA))
	if err != nil {
		return protocol.ClusterConfig{}, fmt.Errorf("the server %s: %w", server, err)
	}
	if err := keys.Install(pki.NodeSet(*answer.Certificates), string(ca), answer.Cluster.ClientCA); err != nil {
		return protocol.ClusterConfig{}, err
	}
	answer.Cluster.ServerCA = string(ca)
	return answer.Cluster, save(j.cfg.Layout, j.cfg.NodeName, answer.Cluster)
}

// ask sends a node request; without a set it only asks whether all is well.
func (j *joiner) ask(ctx context.Context, c *client, server string, set *protocol.NodeSet) (protocol.NodeAnswer, error) {
	var answer protocol.NodeAnswer
	err := c.post(ctx, server, protocol.PathNode, protocol.NodeRequest{
		Name: j.cfg.NodeName, Password: j.password, Version: j.cfg.version(), Requests: set,
	}, &answer)
	if err == nil && len(answer.Cluster.Servers) == 0 {
		err = fmt.Errorf("the server %s answered without a cluster configuration", server)
	}
	return answer, err
}

// sameNames says whether a serving certificate says what it would say if it
// were issued now.
func (c Config) sameNames(s pki.NodeStatus) bool {
	names, addresses := pki.ServingNames(c.node())
	return slices.Equal(names, s.Names) && slices.Equal(addresses, s.Addresses)
}
