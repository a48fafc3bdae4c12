package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// chainOf is a certificate of a file and those that come with it.
func chainOf(t *testing.T, path string) (*x509.Certificate, *x509.CertPool) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := parseCerts(path, data)
	if err != nil {
		t.Fatal(err)
	}
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	return certs[0], between
}

func trusts(t *testing.T, bundle []byte, leaf string) bool {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		t.Fatal("no roots")
	}
	cert, between := chainOf(t, leaf)
	_, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: start, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err == nil
}

func rotateTest(t *testing.T) (l layout.Layout, cfg Config) {
	t.Helper()
	dir := t.TempDir()
	l = layout.Layout{Data: filepath.Join(dir, "data"), Config: filepath.Join(dir, "etc"), Run: filepath.Join(dir, "run")}
	return l, Config{Server: &ServerConfig{Layout: l}, Node: &NodeConfig{Layout: l, Name: "node"}}
}

var start = time.Now().Truncate(time.Second)

func file(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mustEnsure(t *testing.T, cfg Config, now time.Time) *Certificates {
	t.Helper()
	c, err := Ensure(cfg, now, discard())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWhoTrustsTheOldCATrustsTheNewOne(t *testing.T) {
	l, cfg := rotateTest(t)
	files := ServerFilesOf(l)
	mustEnsure(t, cfg, start)
	first := file(t, files.ServerCA.Cert)
	oldLeaf := file(t, files.Serving.Cert)
	kept := filepath.Join(t.TempDir(), "old.crt")
	if err := os.WriteFile(kept, oldLeaf, 0o600); err != nil {
		t.Fatal(err)
	}
	var bundles [][]byte
	known := first
	for i := range 2 { // and once more
		bundles = append(bundles, file(t, files.ServerCA.Cert))
		names, err := RotateCA(l, nil, false, start.Add(time.Duration(i+1)*time.Minute))
		if err != nil || len(names) != 3 {
			t.Fatalf("%v, %v", names, err)
		}
		mustEnsure(t, cfg, start)
		now := file(t, files.ServerCA.Cert)
		for n, old := range bundles {
			if !trusts(t, old, files.Serving.Cert) {
				t.Errorf("rotation %d: who trusts bundle %d does not trust the new certificate", i, n)
			}
		}
		if !trusts(t, now, kept) || !trusts(t, now, files.Serving.Cert) {
			t.Error("the new bundle does not trust old and new")
		}
		adopted, err := Adopt(known, now)
		if err != nil || !bytes.Equal(adopted, now) {
			t.Errorf("adopted %d bytes of %d: %v", len(adopted), len(now), err)
		}
		known = adopted
	}
	// The newest root alone is enough.
	certs, err := parseCerts("", known)
	if err != nil {
		t.Fatal(err)
	}
	if root := encodeCert(certs[0].Raw); !selfSigned(certs[0]) || !trusts(t, root, files.Serving.Cert) || trusts(t, root, kept) {
		t.Error("the first certificate is not the new root")
	}

	// Force: nobody is vouched for.
	before := file(t, files.ServerCA.Cert)
	if _, err := RotateCA(l, nil, true, start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	mustEnsure(t, cfg, start.Add(time.Hour))
	after := file(t, files.ServerCA.Cert)
	if trusts(t, before, files.Serving.Cert) || trusts(t, after, kept) {
		t.Error("with force the old one still counts")
	}
	adopted, err := Adopt(before, after)
	if err != nil || !bytes.Equal(adopted, before) {
		t.Errorf("a root that nobody vouches for is adopted: %v", err)
	}
}

func TestAGivenCAIsCheckedBeforeAnythingChanges(t *testing.T) {
	l, cfg := rotateTest(t)
	mustEnsure(t, cfg, start)
	files := ServerFilesOf(l)
	before := file(t, files.ServerCA.Cert)
	certs, _, keyPEM, err := madeCA("theirs", start)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := encodeCert(certs[0].Raw)
	_, _, otherKey, err := madeCA("other", start)
	if err != nil {
		t.Fatal(err)
	}
	leaf := file(t, files.Serving.Cert)
	for name, c := range map[string]struct {
		set  CASet
		want string
	}{
		"without its key":        {CASet{"server-ca.crt": certPEM}, "belong together"},
		"with another key":       {CASet{"server-ca.crt": certPEM, "server-ca.key": otherKey}, "differ"},
		"no CA":                  {CASet{"server-ca.crt": leaf, "server-ca.key": file(t, files.Serving.Key)}, "no CA certificate"},
		"not PEM":                {CASet{"server-ca.crt": []byte("x"), "server-ca.key": keyPEM}, "no whole certificate"},
		"one that is not in use": {CASet{"etcd/peer-ca.crt": certPEM, "etcd/peer-ca.key": keyPEM}, "has no etcd/peer-ca"},
		"the same again":         {CASet{"server-ca.crt": before, "server-ca.key": file(t, files.ServerCA.Key)}, "nothing would be replaced"},
		"one for two": {CASet{"client-ca.crt": certPEM, "client-ca.key": keyPEM, "request-header-ca.crt": certPEM, "request-header-ca.key": keyPEM},
			"would be the same CA"},
	} {
		if _, err := RotateCA(l, c.set, false, start); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if !bytes.Equal(before, file(t, files.ServerCA.Cert)) {
		t.Error("a refused CA has changed the old one")
	}
	names, err := RotateCA(l, CASet{"server-ca.crt": certPEM, "server-ca.key": keyPEM}, false, start)
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	mustEnsure(t, cfg, start)
	if !trusts(t, certPEM, files.Serving.Cert) || !trusts(t, before, files.Serving.Cert) {
		t.Error("the given CA is not in use, or the old one does not vouch for it")
	}
}

func TestARotationThatWasCutShortIsFinished(t *testing.T) {
	l, cfg := rotateTest(t)
	mustEnsure(t, cfg, start)
	certs, _, keyPEM, err := madeCA("theirs", start)
	if err != nil {
		t.Fatal(err)
	}
	if err := stage(l, CASet{"server-ca.crt": encodeCert(certs[0].Raw), "server-ca.key": keyPEM}); err != nil {
		t.Fatal(err)
	}
	// The certificate was in place, its key was not.
	if err := os.WriteFile(ServerFilesOf(l).ServerCA.Cert, encodeCert(certs[0].Raw), 0o644); err != nil {
		t.Fatal(err)
	}
	mustEnsure(t, cfg, start)
	if _, err := os.Stat(staged(l)); !errors.Is(err, fs.ErrNotExist) || !bytes.Equal(file(t, ServerFilesOf(l).ServerCA.Key), keyPEM) {
		t.Errorf("it is not finished: %v", err)
	}
}

func TestInspect(t *testing.T) {
	l, cfg := rotateTest(t)
	if _, err := Inspect(l, start); err == nil || !strings.Contains(err.Error(), l.Data) {
		t.Errorf("nothing there: %v", err)
	}
	mustEnsure(t, cfg, start)
	states := func(at time.Duration) map[State]int {
		t.Helper()
		all, err := Inspect(l, start.Add(at))
		if err != nil {
			t.Fatal(err)
		}
		n := map[State]int{}
		for _, i := range all {
			if i.Subject == "" || i.Expires.IsZero() {
				t.Errorf("%+v", i)
			}
			n[i.State]++
		}
		return n
	}
	const day = 24 * time.Hour
	all := states(0)[StateOK]
	if got := states(0); len(got) != 1 || all < 14 {
		t.Errorf("at first %v", got)
	}
	if got := states(300 * day); got[StateDue] != 9 || got[StateDue]+got[StateOK] != all {
		t.Errorf("after 300 days %v", got)
	}
	if got := states(366 * day); got[StateExpired] != 9 {
		t.Errorf("after a year %v", got)
	}
	if got := states(-2 * day); got[StateEarly] != all {
		t.Errorf("before %v", got)
	}
	if err := os.WriteFile(ServerFilesOf(l).Admin.Key, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := Inspect(l, start)
	if err != nil {
		t.Fatal(err)
	}
	broken := 0
	for _, i := range found {
		if i.State == StateBroken && i.Service == "admin" && i.Problem != "" {
			broken++
		}
	}
	if broken != 1 {
		t.Errorf("a broken key is not told: %+v", found)
	}
}
