package cluster

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// An agent is there before its server, and both have all the settings that
// nodes may have.
func TestAnAgentMayStartFirst(t *testing.T) { framework.InEachKind(t, testAgentFirst) }

func testAgentFirst(t *testing.T, k framework.Kind) {
	c := &cluster{Cluster: suite.NewCluster(t, k.Families...)}
	first, later := c.NewHost(t, "first"), c.NewHost(t, "later")
	for _, h := range []*framework.Host{first, later} {
		if err := h.Preload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	mustRefuseProfile(t, first)
	giveOuter(t, first, k.Elsewhere(7))
	giveOuter(t, later, k.Elsewhere(8))
	atFirst, atLater := list(k.Elsewhere(7)), list(k.Elsewhere(8))
	const token = "from-the-beginning"
	url := "https://" + net.JoinHostPort(later.Address().String(), "6443")
	args := []string{
		"--server", url, "--token", token, "--node-ip=" + list(first.Addresses()), "--node-external-ip=" + atFirst, "--node-external-dns=first.example.test",
		"--node-label=disk=ssd", "--node-taint=dedicated=db:NoSchedule", "--disable-apiserver-lb", "--profile=small",
	}
	agent := first.StartAgentAs(t, nil, nil, args...)
	framework.Eventually(t, patience, "the agent says what it waits for", func() error {
		if log := agent.Logs(); !strings.Contains(log, "Waiting for a server to let this node join") {
			return fmt.Errorf("its log is %q", log)
		}
		return nil
	})
	c.args = append(k.Server, "--token", token, "--flannel-external-ip", "--node-ip="+list(later.Addresses()), "--node-external-ip="+atLater, "--profile=tiny")
	c.server = later.StartServer(t, c.args...)
	agent.Server, c.agents = c.server, []*framework.Agent{agent}
	c.server.AwaitReady(t)
	agent.AwaitReady(t)

	t.Run("the node is what it was told to be", func(t *testing.T) { testNodeSettings(t, c, atFirst) })
	t.Run("memory profiles hold", func(t *testing.T) { testProfiles(t, c) })
	t.Run("without a load balancer the node's programs ask the server", func(t *testing.T) { testNoBalancer(t, c) })
	t.Run("the pod network goes by external addresses", func(t *testing.T) { testOuterNetwork(t, c, atFirst, atLater) })
	t.Run("a certificate is renewed when it is due", func(t *testing.T) { testRenewal(t, c, args) })
}

// giveOuter gives a host more addresses.
func giveOuter(t *testing.T, h *framework.Host, more []netip.Addr) {
	t.Helper()
	for _, a := range more {
		command := []string{"ip", "address", "add", a.String() + "/24", "dev", "eth0"}
		if a.Is6() {
			command = []string{"ip", "address", "add", a.String() + "/64", "dev", "eth0", "nodad"}
		}
		h.Exec(t, command...)
	}
}

// list writes addresses as settings have them.
func list(addresses []netip.Addr) string {
	var all []string
	for _, a := range addresses {
		all = append(all, a.String())
	}
	return strings.Join(all, ",")
}

func testNodeSettings(t *testing.T, c *cluster, outer string) {
	first := c.agents[0].Host
	for what, want := range map[string]string{
		`{.metadata.labels.disk}`:                                    "ssd",
		`{.spec.taints[*].key}`:                                      "dedicated",
		`{.spec.providerID}`:                                         "skiff://first",
		`{.status.addresses[?(@.type=="InternalIP")].address}`:       strings.ReplaceAll(list(first.Addresses()), ",", " "),
		`{.status.addresses[?(@.type=="ExternalIP")].address}`:       strings.ReplaceAll(outer, ",", " "),
		`{.status.addresses[?(@.type=="ExternalDNS")].address}`:      "first.example.test",
		`{.metadata.labels.node-role\.kubernetes\.io/control-plane}`: "",
	} {
		framework.Eventually(t, patience, what, func() error {
			got, err := c.server.Host.TryKubectl(t.Context(), "get", "node", "first", "-o", "jsonpath="+what)
			if err == nil {
				err = is(want)(got)
			}
			return err
		})
	}
	if log := c.agents[0].Logs(); !strings.Contains(log, "does not say which CA the cluster has") {
		t.Errorf("the agent does not warn that nothing proves that it is the right server:\n%s", log)
	}
	if shown := first.Exec(t, "sh", "-c", `cat /proc/[0-9]*/cmdline | tr '\0' ' '`); strings.Contains(shown, "from-the-beginning") {
		t.Errorf("the token is in the process list: %s", shown)
	}
}

// mustRefuseProfile has both roles refuse a profile that there is not.
func mustRefuseProfile(t *testing.T, h *framework.Host) {
	t.Helper()
	for _, role := range []string{"server", "agent"} {
		r := h.Outcome(t, nshost.Cmd{Args: []string{"skiff", role, "--profile=huge"}})
		for _, said := range []string{"profile", `"huge"`, "auto", "tiny", "small", "default"} {
			if r.Code == 0 || !strings.Contains(r.Stderr, said) {
				t.Errorf("%s --profile=huge: status %d, and nothing of %s in %q", role, r.Code, said, r.Stderr)
			}
		}
	}
}

// testProfiles reads how much garbage may pile up some seconds after the start.
func testProfiles(t *testing.T, c *cluster) {
	for path, want := range map[string]string{"/metrics": "25", "/api/v1/nodes/first/proxy/metrics": "50"} {
		framework.Eventually(t, patience, "the profile in "+path, func() error {
			out, err := c.server.Host.TryKubectl(t.Context(), "get", "--raw", path)
			if err == nil && !strings.Contains(out, "\ngo_gc_gogc_percent "+want+"\n") {
				err = fmt.Errorf("garbage may not grow to %s %%", want)
			}
			return err
		})
	}
}

func testNoBalancer(t *testing.T, c *cluster) {
	first := c.agents[0].Host
	if got := first.ReadFile(t, kubeletConfig); !strings.Contains(got, c.server.URL()) {
		t.Errorf("the node's kubeconfig leads elsewhere than to the server:\n%s", got)
	}
	if got := first.Kubectl(t, "--kubeconfig", kubeletConfig, "get", "node", "first", "-o", "name"); got != "node/first" {
		t.Errorf("kubectl on the node: %q", got)
	}
	if got := first.Exec(t, "ss", "-Hltn", "sport = :6444"); got != "" {
		t.Errorf("something listens at the load balancer's port: %s", got)
	}
}

// testOuterNetwork closes the nodes' own addresses to the pod network.
func testOuterNetwork(t *testing.T, c *cluster, outer ...string) {
	for i, h := range []*framework.Host{c.agents[0].Host, c.server.Host} {
		published := c.server.Host.Kubectl(t, "get", "node", h.Hostname(), "-o", `jsonpath={.metadata.annotations.flannel\.alpha\.coreos\.com/public-ip} {.metadata.annotations.flannel\.alpha\.coreos\.com/public-ipv6}`)
		if got := strings.Join(strings.Fields(published), ","); got != outer[i] {
			t.Errorf("%s is to be reached at %s, not %s", h.Hostname(), got, outer[i])
		}
		rules := "table inet inner { chain out { type filter hook output priority 0\n"
		for _, a := range append(c.server.Host.Addresses(), c.agents[0].Host.Addresses()...) {
			rules += fmt.Sprintf("%s daddr %s udp dport 8472 drop\n", map[bool]string{true: "ip", false: "ip6"}[a.Is4()], a)
		}
		h.Exec(t, "nft", rules+"}\n}")
	}
	testPods(t, newGrid(t, c))
}

// testRenewal gives the agent a certificate that is due soon.
func testRenewal(t *testing.T, c *cluster, args []string) {
	const served = "/var/lib/skiff/agent/serving-kubelet.crt"
	first := c.agents[0].Host
	c.agents[0].MustStopCleanly(t)
	due := time.Now().Add(15 * time.Second).Truncate(time.Second)
	first.WriteFile(t, served, c.reissue(t, first.ReadFile(t, served), due.Add(-time.Hour), due.Add(30*time.Minute)))
	c.agents[0] = first.StartAgentAs(t, c.server, nil, args...)
	framework.Eventually(t, patience, "the kubelet has a new certificate", func() error {
		conn, err := tls.Dial("tcp", net.JoinHostPort(first.Address().String(), "10250"), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return err
		}
		defer conn.Close()
		leaf := conn.ConnectionState().PeerCertificates[0]
		if leaf.NotAfter.Before(due.Add(24 * time.Hour)) {
			return fmt.Errorf("it is valid until %s", leaf.NotAfter)
		}
		// It begins an hour before it was made.
		if made := leaf.NotBefore.Add(time.Hour); made.Before(due) {
			return framework.Permanent(fmt.Errorf("it was made at %s, before the old one was due at %s", made, due))
		}
		return nil
	})
	framework.Eventually(t, patience, "the log says so", func() error {
		if log := c.agents[0].Logs(); !strings.Contains(log, "Renewed the node's certificates") {
			return fmt.Errorf("it is\n%s", log)
		}
		return nil
	})
	if out := c.server.Host.Kubectl(t, "get", "--raw", "/api/v1/nodes/first/proxy/healthz"); out != "ok" {
		t.Errorf("with it the kubelet answers the server %q", out)
	}
}

// reissue has the cluster's CA say the same for another time.
func (c *cluster) reissue(t *testing.T, was string, from, until time.Time) string {
	t.Helper()
	const ca = "/var/lib/skiff/server/tls/server-ca"
	signer, err := tls.X509KeyPair([]byte(c.server.Host.ReadFile(t, ca+".crt")), []byte(c.server.Host.ReadFile(t, ca+".key")))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(was))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	template := *leaf
	template.NotBefore, template.NotAfter = from, until
	der, err := x509.CreateCertificate(rand.Reader, &template, signer.Leaf, leaf.PublicKey, signer.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
