package keyring

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

var day = time.Date(2026, time.November, 1, 12, 0, 0, 0, time.UTC)

// written is a value as a ring writes it, and as it would be read back.
func written(r Ring) []byte { return []byte(r.Prefix() + "value") }

// readable says whether the API server could read a value with this ring.
func readable(r Ring, value []byte) bool {
	if !strings.HasPrefix(string(value), encrypted) {
		return true
	}
	for _, k := range r.Keys {
		if strings.HasPrefix(string(value), k.Prefix()) {
			return true
		}
	}
	return false
}

// TestEveryStepReadsWhatTheOneBeforeWrote is what lets servers go from one step
// to the next at different times.
func TestEveryStepReadsWhatTheOneBeforeWrote(t *testing.T) {
	ring := Ring{}
	for _, kind := range []Kind{Enable, Rotate, Reencrypt, Disable, Enable, Rotate, Disable} {
		next, err := ring.Begin(kind, Secretbox, day)
		if err != nil {
			t.Fatal(kind, err)
		}
		rewritten := false
		for steps := 0; ; steps++ {
			if !readable(next, written(ring)) && !rewritten {
				t.Errorf("%s, %+v: what was written before cannot be read", kind, next.Operation)
			}
			if !readable(ring, written(next)) && next.Operation.Step == Prepare {
				t.Errorf("%s: servers that are behind cannot read what is written", kind)
			}
			if next.Operation.Step == Rewrite {
				ring, rewritten = next, true
			}
			if next = next.Advance(); next.Operation == nil {
				break
			}
			if steps > 5 {
				t.Fatal("no end")
			}
		}
		ring = next
		if ring.Last == nil || ring.Last.Kind != kind || ring.Enabled() != (kind != Disable) || len(ring.Keys) > 1 || !ring.Written(written(ring)) {
			t.Errorf("after %s: %+v", kind, ring)
		}
	}
}

func TestChangesThatMakeNoSense(t *testing.T) {
	on, err := New(AESCBC, day)
	if err != nil {
		t.Fatal(err)
	}
	busy, err := on.Begin(Rotate, AESCBC, day)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ring Ring
		kind Kind
		want string
	}{
		{on, Enable, "rotate-keys"}, {Ring{}, Rotate, "enable"}, {Ring{}, Disable, "nothing to disable"},
		{busy, Disable, "rotate-keys is under way"}, {on, "other", "no change"},
	} {
		if _, err := c.ring.Begin(c.kind, AESCBC, day); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.kind, err, c.want)
		}
	}
	if again, err := on.Begin(Rotate, AESCBC, day); err != nil || again.Keys[0].Name == again.Keys[1].Name {
		t.Errorf("two keys of one name: %v", err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	l := layout.Layout{Data: dir, Config: dir, Run: dir}
	if _, err := Read(l); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	old, err := Open(l, false, true, Secretbox, day)
	if err != nil || old.Enabled() {
		t.Errorf("a cluster that was there: %+v, %v", old, err)
	}
	// It is decided once.
	if again, err := Open(l, true, true, Secretbox, day); err != nil || again.Enabled() {
		t.Errorf("again: %+v, %v", again, err)
	}
	l.Data = t.TempDir()
	fresh, err := Open(l, true, true, Secretbox, day)
	if err != nil || !fresh.Enabled() {
		t.Fatalf("a new cluster: %+v, %v", fresh, err)
	}
	again, err := Open(l, false, false, AESCBC, day)
	if err != nil || again.Keys[0] != fresh.Keys[0] {
		t.Errorf("again: %+v, %v", again, err)
	}
	for _, path := range []string{l.EncryptionState(), l.EncryptionConfig()} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	secret := fresh.Keys[0].Secret
	for name, text := range map[string]string{
		"cut": `{"keys":[{"name":"a","secret":"` + secret, "no key": `{"keys":[],"write":"a"}`,
		"another provider": `{"keys":[{"name":"a","provider":"rot13","secret":"` + secret + `"}],"write":"a"}`,
		"a short key":      `{"keys":[{"name":"a","provider":"aescbc","secret":"YQ=="}],"write":"a"}`,
	} {
		if err := os.WriteFile(l.EncryptionState(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(l, true, true, Secretbox, day); err == nil || !strings.Contains(err.Error(), l.EncryptionState()) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
