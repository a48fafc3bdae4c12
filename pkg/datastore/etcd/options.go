package etcd

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/skiff-k8s/skiff/pkg/pki"
)

// The ports, the same as everywhere.
const (
	clientPort  = 2379
	peerPort    = 2380
	metricsPort = 2381
)

const (
	// A heartbeat and the time without one after which another leader is
	// elected. Upstream's 100 ms and 1 s are for machines of a data centre: an
	// SD card that stalls for a second would cost the leader its office.
	heartbeat = 250  // ms
	election  = 2500 // ms
	// dialTimeout is how long a member tries to reach another one, and some: a
	// second more than an election, by etcd's ServerConfig.PeerDialTimeout.
	dialTimeout = (election + 1000 + 500) * time.Millisecond
	// quota is how large the database may grow, etcd's own default.
	quota = 2 << 30
)

// Config is what a member is told. It never changes.
type Config struct {
	// Dir is where the member keeps everything.
	Dir string
	// Node is the name of this server; the member's name begins with it.
	Node string
	// Address is where other servers reach this one.
	Address netip.Addr
	Files   pki.EtcdFiles
	// InitialCluster, for a member that joins others and has no data yet, are
	// all members, as Admission has it.
	InitialCluster string
	// Alone takes the data, which are to be a copy, for those of the only member
	// that there is, whatever they say: for who wants to read them while others
	// are lost or stopped. Nobody else is listened to.
	Alone bool
	// Args are the user's, "name=value", applied last.
	Args []string
	// Metrics serves metrics to everybody.
	Metrics bool
	// Zap takes etcd's own log.
	Zap *zap.Logger
}

// PeerURL is where a server with an address is reached by the others.
func PeerURL(a netip.Addr) string { return "https://" + at(a, peerPort) }

func at(a netip.Addr, port int) string { return net.JoinHostPort(a.String(), strconv.Itoa(port)) }

// options is etcd's own configuration.
func (c Config) options(name string) (*embed.Config, error) {
	o := embed.NewConfig()
	fs := flag.NewFlagSet("etcd", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	o.AddFlags(fs) // sets defaults, so it comes first
	c.setDefaults(o, name)
	for _, arg := range c.Args {
		key, value, _ := strings.Cut(arg, "=")
		if fs.Lookup(key) == nil {
			return nil, fmt.Errorf("etcd-arg: etcd has no argument %s: see `etcd --help` of version 3.6", key)
		}
		if err := fs.Set(key, value); err != nil {
			return nil, fmt.Errorf("etcd-arg: %s: %w", key, err)
		}
	}
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("etcd-arg: %w", err)
	}
	return o, nil
}

func (c Config) setDefaults(o *embed.Config, name string) {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if c.Address.Is6() {
		loopback = netip.IPv6Loopback()
	}
	o.Name, o.Dir = name, c.Dir
	o.ListenPeerUrls = urls("https", peerPort, c.Address)
	o.AdvertisePeerUrls = urls("https", peerPort, c.Address)
	o.ListenClientUrls = urls("https", clientPort, loopback, c.Address)
	o.AdvertiseClientUrls = urls("https", clientPort, c.Address)
	o.ListenMetricsUrls = nil
	if c.Metrics {
		o.ListenMetricsUrls = urls("http", metricsPort, loopback, c.Address)
	}
	o.ClientTLSInfo = tlsInfo(c.Files.Server, c.Files.ServerCA)
	// Whoever has a certificate of the peers' own CA is a peer, from behind
	// whatever address the network gives it.
	o.PeerTLSInfo = tlsInfo(c.Files.Peer, c.Files.PeerCA)
	o.PeerTLSInfo.SkipClientSANVerify = true
	o.InitialCluster = name + "=" + PeerURL(c.Address)
	o.ClusterState = embed.ClusterStateFlagNew
	if c.InitialCluster != "" {
		o.InitialCluster, o.ClusterState = c.InitialCluster, embed.ClusterStateFlagExisting
	}
	o.InitialClusterToken = clusterToken
	o.TickMs, o.ElectionMs = heartbeat, election
	if c.Alone {
		o.ForceNewCluster = true
		o.ListenPeerUrls, o.ListenClientUrls = urls("https", 0, loopback), urls("https", 0, loopback)
	}
	o.QuotaBackendBytes = quota
	o.EnableGRPCGateway = false
	// A slow disk is said once a second and not for every request.
	o.WarningApplyDuration, o.WarningUnaryRequestDuration = time.Second, time.Second
	o.ZapLoggerBuilder = embed.NewZapLoggerBuilder(c.Zap)
}

// clusterToken keeps members of other clusters apart that were made by hand
// with the same names and addresses. Skiff's are apart by their CAs.
const clusterToken = "skiff"

func tlsInfo(own, ca pki.CertKey) transport.TLSInfo {
	return transport.TLSInfo{CertFile: own.Cert, KeyFile: own.Key, TrustedCAFile: ca.Cert, ClientCertAuth: true}
}

func urls(scheme string, port int, addrs ...netip.Addr) []url.URL {
	var all []url.URL
	for i, a := range addrs {
		if i > 0 && a == addrs[0] {
			continue
		}
		all = append(all, url.URL{Scheme: scheme, Host: at(a, port)})
	}
	return all
}

// Endpoint is where clients on this machine reach the member.
func (c Config) Endpoint() string { return c.endpoint().String() }

func (c Config) endpoint() *url.URL {
	loopback := "127.0.0.1"
	if c.Address.Is6() {
		loopback = "::1"
	}
	return &url.URL{Scheme: "https", Host: net.JoinHostPort(loopback, strconv.Itoa(clientPort))}
}

// memberDir is etcd's own directory in Dir. Where it is, there is a member.
func memberDir(dir string) string { return filepath.Join(dir, "member") }
