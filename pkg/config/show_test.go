package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files and docs/flags.md")

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test ./pkg/config -update rewrites it); got\n%s", path, got)
	}
}

func TestReferenceDocumentationIsUpToDate(t *testing.T) {
	var b bytes.Buffer
	if err := WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "../../docs/flags.md", b.String())
}

func shownHost(t *testing.T) *host {
	h := newHost(t).
		write("config.yaml", "debug: true\nnode-label: [disk=ssd]\nkubelet-arg:\n- max-pods=200\n- manifest-url-header=Authorization:Bearer abc\n- manifest-url=https://user:hunter2@example.com/pods\n").
		write("config.yaml.d/a.yaml", "node-label+: [zone=a]\n")
	h.in.Environ = []string{"SKIFF_HTTPS_LISTEN_PORT=7443"}
	h.in.Flags = Given{"tls-san": {"a.example.com,b.example.com"}}
	return h
}

func TestShowYAML(t *testing.T) {
	h := shownHost(t)
	var b bytes.Buffer
	if err := WriteYAML(&b, h.load().Settings); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "hunter2") || strings.Contains(b.String(), "Bearer abc") {
		t.Error("a secret is shown")
	}
	golden(t, "testdata/show.yaml", strings.ReplaceAll(b.String(), h.dir, "DIR"))
}

func TestShownConfigurationHasTheSameEffect(t *testing.T) {
	h := newHost(t).write("config.yaml", "cluster-cidr: fd00:1::/56\nnode-taint: [a=b:NoSchedule]\nlog-level: dns=debug\nv: 2\nselinux: true\n")
	before := h.load()
	var b bytes.Buffer
	if err := WriteYAML(&b, before.Settings); err != nil {
		t.Fatal(err)
	}
	// Default paths need not exist, paths that somebody wrote must.
	text := strings.NewReplacer("image-credential-provider-bin-dir:", "#", "image-credential-provider-config:", "#", "private-registry:", "#").Replace(b.String())
	after := newHost(t).write("config.yaml", text).load()
	if !reflect.DeepEqual(before.Server, after.Server) {
		t.Errorf("before %+v\nafter  %+v", before.Server, after.Server)
	}
}

func TestShowJSON(t *testing.T) {
	h := shownHost(t)
	var b bytes.Buffer
	if err := WriteJSON(&b, h.load().Settings); err != nil {
		t.Fatal(err)
	}
	var shown map[string]struct {
		Value  any
		Origin string
	}
	if err := json.Unmarshal(b.Bytes(), &shown); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"node-label":        filepath.Join(h.dir, "config.yaml") + ":2, " + filepath.Join(h.dir, "config.yaml.d/a.yaml") + ":1",
		"https-listen-port": "$SKIFF_HTTPS_LISTEN_PORT", "tls-san": "--tls-san", "cluster-cidr": "default",
	} {
		if got := shown[key].Origin; got != want {
			t.Errorf("origin of %s is %q, want %q", key, got, want)
		}
	}
	if shown["https-listen-port"].Value != float64(7443) || shown["debug"].Value != true {
		t.Errorf("values have lost their types: %v", shown)
	}
}

func TestSecretSettingsAreNeitherShownNorQuoted(t *testing.T) {
	one, list := Flag{Secret: true}, Flag{Secret: true}
	if got := redact(one, "hunter2"); got != Redacted {
		t.Errorf("shown as %v", got)
	}
	if got := redact(one, ""); got != "" {
		t.Errorf("an unset secret is shown as %v", got)
	}
	if got := redact(list, []string{"a", "b"}); !reflect.DeepEqual(got, []string{Redacted}) {
		t.Errorf("shown as %v", got)
	}
	l := &loader{broken: map[string]bool{}}
	l.fail(&Flag{Name: "x", Secret: true}, value{}, invalidf("fix hunter2", "%q is wrong", "hunter2"))
	if text := l.problems.Error(); strings.Contains(text, "hunter2") {
		t.Errorf("the problem says %s", text)
	}
}
