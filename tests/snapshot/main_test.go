// Package snapshot tests skiff snapshot with the built binary: what it saves
// under load, where it keeps that, what it refuses, and that clusters come back
// from it elsewhere. Run it with `sudo make test`.
package snapshot

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// suite and tools, a directory for programs that tests build, are set up by
// TestMain.
var (
	suite *framework.Suite
	tools string
)

func TestMain(m *testing.M) {
	code := framework.Main(m, func(s *framework.Suite) {
		suite = s
		var err error
		if tools, err = os.MkdirTemp("", "skiff-snapshot-tools-"); err != nil {
			panic(err)
		}
	})
	if tools != "" {
		_ = os.RemoveAll(tools)
	}
	os.Exit(code)
}

const (
	// patience is what a machine under load is given for anything.
	patience  = 2 * time.Minute
	directory = "/var/lib/skiff/server/db/snapshots"
	suffix    = ".snapshot"
)

// saved is what skiff snapshot prints with -o json.
type saved struct {
	Name, Place, Location, Node, Problem string
	Size                                 int64
	Created                              time.Time
	Metadata                             struct {
		Revision, Keys    int64
		Datastore, Sealed string
	}
}

// skiff runs skiff snapshot, which must succeed, and gives what it lists.
func skiff(t testing.TB, h *framework.Host, args ...string) []saved {
	t.Helper()
	return decode(t, h.Exec(t, append([]string{"skiff", "snapshot", args[0], "-o", "json"}, args[1:]...)...))
}

func decode(t testing.TB, out string) []saved {
	t.Helper()
	var all []saved
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatalf("skiff snapshot printed %q: %v", out, err)
	}
	return all
}

// save makes a snapshot and gives it.
func save(t testing.TB, h *framework.Host, args ...string) saved {
	t.Helper()
	all := skiff(t, h, append([]string{"save"}, args...)...)
	if len(all) == 0 {
		t.Fatal("skiff snapshot save lists nothing")
	}
	return all[0]
}

// refused runs skiff snapshot, which must fail, and gives what it says.
func refused(t testing.TB, h *framework.Host, args ...string) string {
	t.Helper()
	r := h.Outcome(t, nshost.Cmd{Args: append([]string{"skiff", "snapshot"}, args...)})
	if r.Code == 0 {
		t.Fatalf("skiff snapshot %s succeeds: %s", strings.Join(args, " "), r.Stdout)
	}
	return r.Stderr
}

// wants checks that a text says all of these.
func wants(t testing.TB, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s says nothing of %q:\n%s", what, part, text)
		}
	}
}

// names are those of a list, in its order.
func names(all []saved) string {
	var list []string
	for _, s := range all {
		list = append(list, s.Place+":"+s.Name)
	}
	return strings.Join(list, " ")
}
