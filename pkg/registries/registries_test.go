package registries

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the expected files of testdata")

// full has something of everything.
const full = `
mirrors:
  docker.io:
    endpoint: [https://mirror.test:5000, "http://10.0.0.1:5000/v2/", https://harbor.test/v2/proxy]
    rewrite: {"^(.*)$": "hub/$1"}
  example.test:
    endpoint:
    - https://mirror.test:5000
  spegel.test:
  "*":
    endpoint: ["https://all.test"]
configs:
  mirror.test:5000:
    auth: {username: joe, password: "a\"b\\c"}
    tls: {insecure_skip_verify: true}
  docker.io:
    auth: {auth: am9lOnNlY3JldA==}
  own.test:443:
    auth: {username: ann, password: "*star"}
  "[fd00::1]:5000": {}
`

func mustParse(t *testing.T, text string) *document {
	t.Helper()
	d, err := parse("registries.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func flat(files map[string]string) string {
	var b strings.Builder
	for _, name := range sortedKeys(files) {
		b.WriteString("=== " + name + "\n" + files[name])
	}
	return b.String()
}

func TestRender(t *testing.T) {
	for name, fallback := range map[string]bool{"the registry itself is asked last": true, "only the mirrors are asked": false} {
		t.Run(name, func(t *testing.T) {
			got := flat(mustParse(t, full).render(fallback))
			golden := filepath.Join("testdata", map[bool]string{true: "fallback.txt", false: "mirrors-only.txt"}[fallback])
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestEveryProblemIsToldAtOnce(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.pem")
	if err := os.WriteFile(bad, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := parse("/etc/r.yaml", []byte(`
mirors: {}
mirrors:
  https://docker.io: {}
  docker.io:
    endpoints: [https://a]
    endpoint: [mirror:5000, https://joe:hunter2@a.test, https://b.test, https://b.test/, "http://[::1", {}]
  a.test:
    endpoint: https://a.test
    rewrite: {"(": "x", "^rancher/(.*)": "prefix/$1"}
  a.test: {}
configs:
  a.test:
    auth: {username: joe, pasword: hunter2}
    tls: {ca_file: /nowhere, insecure_skip_verify: maybe}
  b.test:
    auth: {username: hunter2}
    tls: {ca_file: `+bad+`, cert_file: relative.pem, key_file: `+bad+`}
  c.test:
    auth: {auth: aHVudGVyMg==}
  d.test:
    auth: {token: hunter2}
  e.test:
    auth: hunter2
`))
	if err == nil {
		t.Fatal("it is taken for right")
	}
	if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "aHVudGVyMg") {
		t.Errorf("a message has a password in it:\n%v", err)
	}
	for _, want := range []string{
		"/etc/r.yaml:2: mirors: there is no such key; did you mean mirrors?",
		`/etc/r.yaml:4: mirrors["https://docker.io"]: it is not the name of a registry`,
		`:6: mirrors["docker.io"].endpoints: there is no such key; did you mean endpoint?`,
		`:7: mirrors["docker.io"].endpoint[0]: it does not begin with https://`,
		`mirrors["docker.io"].endpoint[1]: an endpoint has no user and password`,
		`mirrors["docker.io"].endpoint[3]: the endpoint is there twice`,
		`mirrors["docker.io"].endpoint[4]: it is not a URL`,
		`mirrors["docker.io"].endpoint[5]: it is not one plain value`,
		`:9: mirrors["a.test"].endpoint: it is not a list`,
		`:10: mirrors["a.test"].rewrite.(: it is not a regular expression`,
		`containerd cannot rewrite names like this`,
		`:11: mirrors["a.test"]: the key is there twice, first in line 8`,
		`:14: configs["a.test"].auth.pasword: there is no such key; did you mean password?`,
		`:15: configs["a.test"].tls.ca_file: /nowhere cannot be read: no such file or directory`,
		`configs["a.test"].tls.insecure_skip_verify: it is neither true nor false`,
		`:17: configs["b.test"].auth: it has only one of username and password`,
		`:18: configs["b.test"].tls.ca_file: there is no certificate in ` + bad,
		`configs["b.test"].tls.cert_file: relative.pem does not begin with /`,
		`configs["b.test"].tls: there is a key_file without a cert_file`,
		`:20: configs["c.test"].auth.auth: it is not username:password in base64`,
		`:22: configs["d.test"].auth.token: identity tokens are not supported`,
		`:24: configs["e.test"].auth: it is not a list of KEY: VALUE lines`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing says %q", want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}

func TestSyntaxErrorsKeepPasswordsSecret(t *testing.T) {
	_, err := parse("r.yaml", []byte("configs:\n  a.test:\n    auth: {username: joe, password: *hunter2}\n"))
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "a value begins with *") {
		t.Errorf("it says %v", err)
	}
}

func TestNothingWrittenIsRight(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "mirrors:\nconfigs:\n", "mirrors: {docker.io: {endpoint: }}\n"} {
		mustParse(t, text)
	}
}

func TestWriteHosts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs.d")
	first, second := map[string]string{"a": header + "1", "b": header}, map[string]string{"a": header + "2"}
	if changed, err := writeHosts(dir, first); err != nil || strings.Join(changed, " ") != "a b" {
		t.Fatal(changed, err)
	}
	if changed, err := writeHosts(dir, first); err != nil || len(changed) > 0 {
		t.Fatal("the same again changes", changed, err)
	}
	foreign := filepath.Join(dir, "foreign", hostsFile)
	if err := os.Mkdir(filepath.Dir(foreign), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(foreign, []byte("server = \"https://x.test\""), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := writeHosts(dir, second); err != nil || strings.Join(changed, " ") != "a b" {
		t.Fatal(changed, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "b")); !os.IsNotExist(err) {
		t.Error("what is no more wanted is still there: ", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Error("somebody else's file is gone: ", err)
	}
	info, err := os.Stat(filepath.Join(dir, "a", hostsFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
}
