package install

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// releases is a web server with releases of Skiff, as the real place has them.
type releases struct {
	url string

	mu     sync.Mutex
	sum    string
	served map[string]int
}

func newReleases(t *testing.T, m machine) *releases {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(m.Gateway().String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	r := &releases{url: "http://" + l.Addr().String() + "/releases", sum: sumOf(t, suite.Binary()), served: map[string]int{}}
	server := &http.Server{Handler: r}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return r
}

func sumOf(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

func (r *releases) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	path := strings.TrimPrefix(q.URL.Path, "/releases/")
	r.mu.Lock()
	r.served[path]++
	sum := r.sum
	r.mu.Unlock()
	file := "skiff-linux-" + runtime.GOARCH
	switch path {
	case "latest/download/" + file, "download/v0.1.0/" + file:
		http.ServeFile(w, q, suite.Binary())
	case "latest/download/" + file + ".sha256", "download/v0.1.0/" + file + ".sha256":
		fmt.Fprintf(w, "%s  %s\n", sum, file)
	default:
		http.NotFound(w, q)
	}
}

func (r *releases) count(path string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.served[path]
}

func (r *releases) setSum(sum string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sum = sum
}

func TestAReleaseIsDownloadedAndChecked(t *testing.T) {
	m := newMachine(t)
	r := newReleases(t, m)
	env := []string{"INSTALL_SKIFF_FILE=", "INSTALL_SKIFF_URL=" + r.url}
	file := "skiff-linux-" + runtime.GOARCH

	before := m.files(t)
	r.setSum(strings.Repeat("0", 64))
	refused := m.try(t, env)
	if refused.Code == 0 {
		t.Error("a damaged file was installed")
	}
	has(t, "the refusal", refused.Stderr, "is damaged")
	if after := m.files(t); after != before {
		t.Errorf("the files were\n%s\nand are\n%s", before, after)
	}
	refused = m.try(t, append(env, "INSTALL_SKIFF_VERSION=v9.9.9"))
	has(t, "the refusal", refused.Stderr, r.url+"/download/v9.9.9/"+file+".sha256 could not be downloaded")

	r.setSum(sumOf(t, suite.Binary()))
	m.install(t, env)
	if got := m.Exec(t, bin+"/skiff", "version"); !strings.Contains(got, "skiff") {
		t.Errorf("what is installed says %q", got)
	}
	latest := r.count("latest/download/" + file)
	m.install(t, env)
	if got := r.count("latest/download/" + file); got != latest {
		t.Error("the release that is installed was downloaded again")
	}
	m.Exec(t, "rm", bin+"/skiff")
	m.install(t, append(env, "INSTALL_SKIFF_VERSION=v0.1.0"))
	if r.count("download/v0.1.0/"+file) != 1 {
		t.Error("the version that was asked for was not downloaded")
	}
}
