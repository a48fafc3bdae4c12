package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

const (
	ringFile   = "/var/lib/skiff/server/cred/encryption-state.json"
	configFile = "/var/lib/skiff/server/cred/encryption-config.json"
)

// vault is a server whose datastore is looked into.
type vault struct {
	*framework.Host
	server *framework.Server
}

func newVault(t *testing.T, args ...string) *vault {
	t.Helper()
	v := &vault{Host: suite.NewHost(t)}
	v.start(t, args...)
	return v
}

func (v *vault) start(t *testing.T, args ...string) {
	t.Helper()
	v.server = v.StartServer(t, append([]string{"--disable-agent"}, args...)...)
	v.server.AwaitAPI(t)
}

func (v *vault) status(t *testing.T) (s protocol.EncryptionStatus) {
	t.Helper()
	if err := json.Unmarshal([]byte(v.Exec(t, "skiff", "secrets-encrypt", "status", "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// change changes the encryption and waits for the end of that.
func (v *vault) change(t *testing.T, action string) protocol.EncryptionStatus {
	t.Helper()
	v.Exec(t, "skiff", "secrets-encrypt", action)
	return v.mustBeWhole(t, action)
}

// mustBeWhole checks that nothing is under way, and that every Secret is stored
// as it is to be.
func (v *vault) mustBeWhole(t *testing.T, last string) protocol.EncryptionStatus {
	t.Helper()
	s := v.status(t)
	if s.Operation != nil || s.Current != s.Secrets || s.Secrets == 0 || last != "" && (s.Last == nil || s.Last.Action != last) {
		t.Fatalf("the status is %+v", s)
	}
	return s
}

// secret makes a Secret and gives the value in it.
func (v *vault) secret(t *testing.T, name string) string {
	t.Helper()
	value := "value-of-" + name + "-that-is-nowhere-else"
	v.Kubectl(t, "create", "secret", "generic", name, "--from-literal=key="+value)
	return value
}

// inDatastore says whether a text is in the files of the database.
func (v *vault) inDatastore(t *testing.T, text string) bool {
	t.Helper()
	files, err := filepath.Glob(v.Path("/var/lib/skiff/server/db/state.db*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the files of the database: %v, %v", files, err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // it may be a log that went
			t.Fatal(err)
		}
		if strings.Contains(string(data), text) {
			return true
		}
	}
	return false
}

// fill makes count Secrets at once.
func (v *vault) fill(t *testing.T, prefix string, count int) {
	t.Helper()
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s-%d}\nstringData: {key: %s-%d}\n", prefix, i, prefix, i)
	}
	v.KubectlIn(t, strings.NewReader(b.String()), "create", "-f", "-")
}

// mustRead checks that all Secrets that fill made can be read.
func (v *vault) mustRead(t *testing.T, prefix string, count int) {
	t.Helper()
	out := v.Kubectl(t, "get", "secrets", "-o", `go-template={{range .items}}{{.metadata.name}} {{if .data.key}}{{.data.key|base64decode}}{{end}}{{"\n"}}{{end}}`)
	for i := range count {
		if want := fmt.Sprintf("%s-%d %[1]s-%[2]d\n", prefix, i); !strings.Contains(out+"\n", want) {
			t.Fatalf("no %q among %d bytes", want, len(out))
		}
	}
}

// underLoad writes Secrets until the function that it returns is called.
func (v *vault) underLoad(t *testing.T) (stop func() (written int)) {
	t.Helper()
	done := make(chan struct{})
	var wg sync.WaitGroup
	written := 0
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			_, err := v.Try(context.WithoutCancel(t.Context()), strings.NewReader(fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: load-%d}
stringData: {key: load-%[1]d}
---
apiVersion: v1
kind: Secret
metadata: {name: load}
stringData: {key: "%[1]d"}
`, written)), "skiff", "kubectl", "apply", "-f", "-")
			if err != nil {
				t.Errorf("writing meanwhile: %v", err)
				return
			}
			written++
		}
	})
	stop = sync.OnceValue(func() int {
		close(done)
		wg.Wait()
		return written
	})
	t.Cleanup(func() { stop() })
	return stop
}

// TestSecretsAreEncrypted is the life of a new cluster's keys.
func TestSecretsAreEncrypted(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	value := v.secret(t, "first")
	if v.inDatastore(t, value) {
		t.Error("a new cluster stores Secrets as plain text")
	}
	first := v.mustBeWhole(t, "")
	if !first.Enabled || len(first.Keys) != 1 || first.Keys[0].Provider != "secretbox" || !first.Keys[0].Active {
		t.Errorf("the status is %+v", first)
	}
	for _, path := range []string{ringFile, configFile} {
		if mode := v.Exec(t, "stat", "-c", "%a %U", path); strings.TrimSpace(mode) != "600 root" {
			t.Errorf("%s is %s", path, mode)
		}
	}
	v.fill(t, "many", 400)

	t.Run("the key is replaced under load", func(t *testing.T) {
		stop := v.underLoad(t)
		now := v.change(t, "rotate-keys")
		written := stop()
		if len(now.Keys) != 1 || now.Keys[0].Name == first.Keys[0].Name || written == 0 {
			t.Errorf("the status is %+v after %d writes", now, written)
		}
		for _, path := range []string{ringFile, configFile} {
			if strings.Contains(v.ReadFile(t, path), first.Keys[0].Name) {
				t.Errorf("the old key is still in %s", path)
			}
		}
		v.mustRead(t, "many", 400)
		v.mustRead(t, "load", written)
	})

	t.Run("it goes on after kill -9", func(t *testing.T) {
		before := v.status(t).Keys[0].Name
		// Which moment is hit is left to chance; one before the end has to be.
		for attempt := 1; ; attempt++ {
			v.Exec(t, "skiff", "secrets-encrypt", "rotate-keys", "--no-wait")
			framework.Eventually(t, time.Minute, "Secrets are being written anew", func() error {
				if !strings.Contains(v.ReadFile(t, ringFile), `"step": "rewrite"`) {
					return errors.New("not yet")
				}
				return nil
			})
			v.server.Kill9(t)
			interrupted := strings.Contains(v.ReadFile(t, ringFile), `"operation"`)
			v.start(t)
			framework.Eventually(t, 2*time.Minute, "the change is finished", func() error {
				if s := v.status(t); s.Operation != nil {
					return fmt.Errorf("%+v", s.Operation)
				}
				return nil
			})
			if interrupted {
				break
			}
			if attempt == 10 {
				t.Fatal("no attempt hit the change")
			}
		}
		now := v.mustBeWhole(t, "rotate-keys")
		if len(now.Keys) != 1 || now.Keys[0].Name == before {
			t.Errorf("the status is %+v", now)
		}
		v.mustRead(t, "many", 400)
	})

	t.Run("another provider after a restart", func(t *testing.T) {
		v.server.MustStopCleanly(t)
		v.start(t, "--secrets-encryption-provider=aescbc")
		v.mustRead(t, "many", 400)
		if now := v.change(t, "rotate-keys"); now.Keys[0].Provider != "aescbc" {
			t.Errorf("the status is %+v", now)
		}
		if v.inDatastore(t, v.secret(t, "second")) {
			t.Error("it stores Secrets as plain text")
		}
	})

	t.Run("plain text again, and back", func(t *testing.T) {
		stop := v.underLoad(t)
		if now := v.change(t, "disable"); now.Enabled {
			t.Errorf("the status is %+v", now)
		}
		stop()
		if !v.inDatastore(t, value) || !v.inDatastore(t, v.secret(t, "third")) {
			t.Error("it is not plain text in the datastore")
		}
		v.server.MustStopCleanly(t)
		v.start(t) // the flag is on, and the cluster stays as it is
		if v.status(t).Enabled {
			t.Error("a restart encrypts")
		}
		if r := v.Outcome(t, nshost.Cmd{Args: []string{"skiff", "secrets-encrypt", "rotate-keys"}}); r.Code != 1 || !strings.Contains(r.Stderr, "secrets-encrypt enable") {
			t.Errorf("a new key for nothing: %+v", r)
		}
		if now := v.change(t, "enable"); !now.Enabled || len(now.Keys) != 1 {
			t.Errorf("the status is %+v", now)
		}
		if v.inDatastore(t, v.secret(t, "fourth")) {
			t.Error("it stores Secrets as plain text")
		}
		v.mustRead(t, "many", 400)
	})

	t.Run("no key is in the log", func(t *testing.T) {
		var ring struct{ Keys []struct{ Secret string } }
		if err := json.Unmarshal([]byte(v.ReadFile(t, ringFile)), &ring); err != nil || len(ring.Keys) == 0 {
			t.Fatalf("%+v, %v", ring, err)
		}
		for _, k := range ring.Keys {
			if strings.Contains(v.server.Logs(), k.Secret) {
				t.Error("it is")
			}
		}
	})
}

// TestSecretsOfAnOlderClusterStayAsTheyAre has one that was made without keys.
func TestSecretsOfAnOlderClusterStayAsTheyAre(t *testing.T) {
	t.Parallel()
	v := newVault(t, "--secrets-encryption=false")
	value := v.secret(t, "first")
	v.server.MustStopCleanly(t)
	// What a version without encryption leaves.
	v.Exec(t, "rm", "-r", filepath.Dir(ringFile))
	v.start(t)
	if s := v.mustBeWhole(t, ""); s.Enabled || len(s.Keys) != 0 || !v.inDatastore(t, value) {
		t.Errorf("the status is %+v", s)
	}
	if s := v.change(t, "enable"); !s.Enabled {
		t.Errorf("the status is %+v", s)
	}
	if v.inDatastore(t, v.secret(t, "second")) {
		t.Error("it stores Secrets as plain text")
	}
	// Someone else's is left alone.
	v.server.MustStopCleanly(t)
	v.start(t, "--kube-apiserver-arg=encryption-provider-config="+configFile)
	if got := v.Kubectl(t, "get", "secret", "first", "-o", "jsonpath={.data.key}"); got == "" {
		t.Error("it cannot be read with upstream's own")
	}
	if r := v.Outcome(t, nshost.Cmd{Args: []string{"skiff", "secrets-encrypt", "disable"}}); r.Code != 1 || !strings.Contains(r.Stderr, "encryption-provider-config") {
		t.Errorf("%+v", r)
	}
}
