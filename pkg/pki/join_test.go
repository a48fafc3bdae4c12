package pki

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// nodeConfig is a node on a machine of its own.
func nodeConfig(t *testing.T) NodeConfig {
	t.Helper()
	dir := t.TempDir()
	return NodeConfig{
		Layout: layout.Layout{Data: filepath.Join(dir, "data"), Config: filepath.Join(dir, "etc"), Run: filepath.Join(dir, "run")},
		Name:   "edge", Names: []string{"edge.example.org"}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.9")},
		APIServer: "https://127.0.0.1:6444",
	}
}

// issue does what a server does with a node's requests.
func issue(t *testing.T, a *Authorities, node string, set NodeSet, now time.Time) NodeSet {
	t.Helper()
	serving, kubelet, proxy, nodeAgent := NodeLeaves(node)
	sign := func(ca *Authority, spec Leaf, text string) string {
		r, err := ParseRequest(text)
		if err != nil {
			t.Fatal(err)
		}
		if !r.Asks(spec) {
			t.Fatalf("%q is not asked for: %+v", spec.CommonName, r.Leaf)
		}
		if spec.CommonName == serving.CommonName && ca == a.Server {
			spec.DNSNames, spec.IPs = r.Leaf.DNSNames, r.Leaf.IPs
		}
		cert, err := ca.SignRequest(spec, r, now)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	return NodeSet{
		Serving: sign(a.Server, serving, set.Serving), Kubelet: sign(a.Client, kubelet, set.Kubelet),
		Proxy: sign(a.Client, proxy, set.Proxy), NodeAgent: sign(a.Client, nodeAgent, set.NodeAgent),
	}
}

func installed(t *testing.T, a *Authorities, cfg NodeConfig, now time.Time) {
	t.Helper()
	keys, set, err := NewNodeKeys(cfg, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Install(issue(t, a, cfg.Name, set, now), string(a.Server.Bundle), string(a.Client.Bundle)); err != nil {
		t.Fatal(err)
	}
}

func TestANodeThatJoinedHasTheFilesOfAnEmbeddedOne(t *testing.T) {
	server := testConfig(t)
	a := ensure(t, server, birthday).Authorities
	cfg := nodeConfig(t)
	if _, err := ReadNode(cfg.Layout, cfg.Name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before it joined: %v", err)
	}
	installed(t, a, cfg, birthday)
	joined, embedded := snapshot(t, cfg.Layout.Agent()), snapshot(t, server.Node.Layout.Agent())
	for path := range embedded {
		if _, ok := joined[filepath.Join(cfg.Layout.Agent(), filepath.Base(path))]; !ok {
			t.Errorf("it has no %s", filepath.Base(path))
		}
	}
	if len(joined) != len(embedded) {
		t.Errorf("it has %d files, an embedded one %d", len(joined), len(embedded))
	}
	files := NodeFilesOf(cfg.Layout)
	leaf := readCert(t, files.Serving.Cert)
	if !slices.Equal(leaf.DNSNames, []string{"edge", "edge.example.org"}) || len(leaf.IPAddresses) != 1 || leaf.Subject.CommonName != "system:node:edge" {
		t.Errorf("the kubelet serves as %v, %v, %v", leaf.Subject, leaf.DNSNames, leaf.IPAddresses)
	}
	status, err := ReadNode(cfg.Layout, cfg.Name)
	if err != nil || !status.Due.After(birthday.Add(200*24*time.Hour)) || !status.Expires.After(status.Due) {
		t.Errorf("%+v, %v", status, err)
	}
	if names, addresses := ServingNames(cfg); !slices.Equal(names, status.Names) || !slices.Equal(addresses, status.Addresses) {
		t.Errorf("asked for %v %v, got %v %v", names, addresses, status.Names, status.Addresses)
	}
	if _, err := ReadNode(cfg.Layout, "another"); err == nil {
		t.Error("its certificates are taken for another node's")
	}
}

func TestCertificatesForOtherKeysAreNotInstalled(t *testing.T) {
	a := ensure(t, testConfig(t), birthday).Authorities
	cfg := nodeConfig(t)
	_, others, err := NewNodeKeys(cfg, false)
	if err != nil {
		t.Fatal(err)
	}
	keys, _, err := NewNodeKeys(cfg, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Install(issue(t, a, cfg.Name, others, birthday), string(a.Server.Bundle), string(a.Client.Bundle)); err == nil {
		t.Fatal("installed")
	}
	if files := snapshot(t, cfg.Layout.Agent()); len(files) > 0 {
		t.Errorf("something was written: %v", files)
	}
}

// TestKeysThatAreKeptMatchAtAnyMoment reads as the kubelet does when it starts:
// first one file, then the other.
func TestKeysThatAreKeptMatchAtAnyMoment(t *testing.T) {
	a := ensure(t, testConfig(t), birthday).Authorities
	cfg := nodeConfig(t)
	installed(t, a, cfg, birthday)
	files := NodeFilesOf(cfg.Layout).Serving
	stop, read := make(chan struct{}), make(chan error)
	go func() {
		defer close(read)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := tls.LoadX509KeyPair(files.Cert, files.Key); err != nil {
				read <- err
				return
			}
		}
	}()
	before := readCert(t, files.Cert)
	for range 50 {
		keys, set, err := NewNodeKeys(cfg, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := keys.Install(issue(t, a, cfg.Name, set, birthday), string(a.Server.Bundle), string(a.Client.Bundle)); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-read; err != nil {
		t.Error(err)
	}
	if after := readCert(t, files.Cert); after.SerialNumber.Cmp(before.SerialNumber) == 0 {
		t.Error("no certificate was issued anew")
	}
}

func TestAKeyThatIsNoUseIsNotKept(t *testing.T) {
	a := ensure(t, testConfig(t), birthday).Authorities
	cfg := nodeConfig(t)
	installed(t, a, cfg, birthday)
	files := NodeFilesOf(cfg.Layout)
	write(t, files.Serving.Key, []byte("damaged"))
	lost, err := os.ReadFile(files.Kubelet.Key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, files.Proxy.Key, lost) // another certificate's
	keys, set, err := NewNodeKeys(cfg, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Install(issue(t, a, cfg.Name, set, birthday), string(a.Server.Bundle), string(a.Client.Bundle)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadNode(cfg.Layout, cfg.Name); err != nil {
		t.Error(err)
	}
}

// TestARenewalThatIsCutShortLosesNothing stops between any two steps.
func TestARenewalThatIsCutShortLosesNothing(t *testing.T) {
	a := ensure(t, testConfig(t), birthday).Authorities
	for steps := range 4 {
		cfg := nodeConfig(t)
		installed(t, a, cfg, birthday)
		keys, set, err := NewNodeKeys(cfg, false)
		if err != nil {
			t.Fatal(err)
		}
		issued := issue(t, a, cfg.Name, set, birthday.Add(time.Hour))
		files := NodeFilesOf(cfg.Layout).Kubelet
		before, err := os.ReadFile(files.Cert)
		if err != nil {
			t.Fatal(err)
		}
		if steps > 0 {
			write(t, nextKey(files), keys.keys[1])
		}
		if steps > 1 {
			write(t, files.Cert, []byte(issued.Kubelet))
		}
		if steps > 2 {
			if err := takeNextKey(files); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := ReadNode(cfg.Layout, cfg.Name); err != nil {
			t.Errorf("after %d steps: %v", steps, err)
		}
		if _, err := tls.LoadX509KeyPair(files.Cert, files.Key); err != nil {
			t.Errorf("after %d steps the pair is not put right: %v", steps, err)
		}
		if after, err := os.ReadFile(files.Cert); err != nil || (steps < 2) != bytes.Equal(before, after) {
			t.Errorf("after %d steps it is the wrong certificate: %v", steps, err)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	_, set, err := NewNodeKeys(NodeConfig{Name: "edge"}, false)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(set.Serving)
	f.Add(set.Kubelet + set.Proxy)
	f.Add("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRequest(text)
		if err == nil && strong(r.public) != nil {
			t.Error("a weak key was taken")
		}
	})
}
