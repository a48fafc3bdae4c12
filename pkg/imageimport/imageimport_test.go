package imageimport_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/skiff-k8s/skiff/pkg/containerd"
	"github.com/skiff-k8s/skiff/pkg/imageimport"
	"github.com/skiff-k8s/skiff/pkg/internal/nstest"
	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/scripts/imagetar"
)

const pauseName = "skiff.test/pause:1"

// messages hands log entries to the test as they come.
type messages chan string

func (m messages) Levels() []logrus.Level { return logrus.AllLevels }

func (m messages) Fire(e *logrus.Entry) error {
	line, err := e.String()
	m <- line
	return err
}

// next returns the next message, which must contain all of want.
func (m messages) next(t *testing.T, want ...string) string {
	t.Helper()
	select {
	case line := <-m:
		for _, w := range want {
			if !strings.Contains(line, w) {
				t.Fatalf("the log says %q, want %q in it", line, w)
			}
		}
		return line
	case <-time.After(20 * time.Second):
		t.Fatalf("waited in vain for a log line with %q", want)
	}
	return ""
}

// none is for what must not happen; it waits longer than an import takes.
func (m messages) none(t *testing.T) {
	t.Helper()
	select {
	case line := <-m:
		t.Fatalf("the log says %q, want nothing", line)
	case <-time.After(1200 * time.Millisecond):
	}
}

// host is a containerd with a directory of archives.
type host struct {
	cfg     imageimport.Config
	runtime func(context.Context) (imageimport.Runtime, error)
	cri     runtimeapi.ImageServiceClient
	client  func() imageimport.Runtime
}

func startHost(t *testing.T, dir, payload string) *host {
	t.Helper()
	l := layout.Layout{Data: filepath.Join(dir, "data"), Run: "/run/skiff", Config: filepath.Join(dir, "etc")}
	t.Setenv("PATH", l.Helpers()+":"+os.Getenv("PATH"))
	quiet := logrus.New()
	quiet.SetLevel(logrus.WarnLevel)
	c := containerd.New(containerd.Config{
		Layout: l, PauseImage: pauseName,
		RuncPath: filepath.Join(payload, "runc"), ShimPath: filepath.Join(payload, "containerd-shim-runc-v2"),
	}, quiet.WithField("component", "containerd"))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, func() {}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("containerd ended with %v", err)
		}
	})
	services, err := c.Services(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("unix://"+l.ContainerdSocket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	rt := imageimport.Runtime{Client: services.Client, RefreshImage: services.RefreshImage}
	h := &host{
		cfg: imageimport.Config{
			Namespace: containerd.Namespace, Directory: l.Images(), Record: l.AgentFile("images.json"),
			PauseArchive: filepath.Join(dir, "pause.tar"), Snapshotter: "overlayfs",
		},
		runtime: func(context.Context) (imageimport.Runtime, error) { return rt, nil },
		cri:     runtimeapi.NewImageServiceClient(conn),
		client:  func() imageimport.Runtime { return rt },
	}
	write(t, h.cfg.PauseArchive, archive(t, pauseName))
	if err := os.MkdirAll(h.cfg.Directory, 0o755); err != nil {
		t.Fatal(err)
	}
	return h
}

// start runs the component until the returned function is called.
func (h *host) start(t *testing.T) (messages, func()) {
	t.Helper()
	m := make(messages, 100)
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.AddHook(m)
	c := imageimport.New(h.cfg, h.runtime, logger.WithField("component", "images"))
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- c.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("ended before it was ready: %v", err)
	}
	return m, func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
	}
}

// image asks the CRI, as the kubelet does.
func (h *host) image(t *testing.T, name string) *runtimeapi.Image {
	t.Helper()
	got, err := h.cri.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: name}})
	if err != nil {
		t.Fatal(err)
	}
	return got.Image
}

func (h *host) wantPinned(t *testing.T, name string, pinned bool) {
	t.Helper()
	img := h.image(t, name)
	if img == nil {
		t.Fatalf("the CRI does not know %s", name)
	}
	if img.Pinned != pinned {
		t.Errorf("%s: pinned is %v, want %v", name, img.Pinned, pinned)
	}
}

// archive is an image archive whose content depends on its name.
func archive(t *testing.T, name string) []byte {
	t.Helper()
	var out bytes.Buffer
	img := imagetar.Image{Name: name, Entrypoint: []string{"/x"}, Files: []imagetar.File{
		{Path: "/x", Mode: 0o755, Data: []byte(strings.Repeat(name, 5000))}}}
	if err := imagetar.Write(&out, img); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstandard(t *testing.T, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestArchives(t *testing.T) {
	payload := nstest.Payload(t)
	dir, inside := nstest.Inside(t)
	if !inside {
		return
	}
	h := startHost(t, dir, payload)
	in := func(name string) string { return filepath.Join(h.cfg.Directory, name) }
	write(t, in("a.tar"), archive(t, "docker.io/library/a:1"))
	write(t, in("b.tar.gz"), gzipped(t, archive(t, "docker.io/library/b:1")))
	write(t, in("broken.tar"), archive(t, "docker.io/library/broken:1")[:20000])
	write(t, in("c.tar.zst"), zstandard(t, archive(t, "docker.io/library/c:1")))
	write(t, in("notes.txt"), []byte("docker.io/library/d:1"))
	m, stop := h.start(t)

	h.wantPinned(t, pauseName, true)
	m.next(t, "imported", "a.tar", "docker.io/library/a:1")
	m.next(t, "imported", "b.tar.gz", "docker.io/library/b:1")
	m.next(t, "level=error", "broken.tar", "cut short")
	m.next(t, "imported", "c.tar.zst", "docker.io/library/c:1")
	for _, name := range []string{"a:1", "b:1", "c:1"} {
		h.wantPinned(t, name, true)
	}

	t.Run("one that is put there while running is imported when it is whole", func(t *testing.T) {
		data := archive(t, "docker.io/library/late:1")
		f, err := os.Create(in("late.tar"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(data[:20000]); err != nil {
			t.Fatal(err)
		}
		write(t, in("other.tar"), archive(t, "docker.io/library/other:1"))
		m.next(t, "imported", "other.tar")
		m.none(t)
		_, err = f.Write(data[20000:])
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		m.next(t, "imported", "late.tar")
		h.wantPinned(t, "late:1", true)
	})
	t.Run("one under a temporary name is left alone until it is renamed", func(t *testing.T) {
		write(t, in("r.tar.part"), archive(t, "docker.io/library/r:1"))
		write(t, in(".r.tar"), archive(t, "docker.io/library/r:1"))
		m.none(t)
		if err := os.Rename(in("r.tar.part"), in("r.tar")); err != nil {
			t.Fatal(err)
		}
		m.next(t, "imported", "r.tar")
	})
	t.Run("one that was mended is imported", func(t *testing.T) {
		write(t, in("broken.tar"), archive(t, "docker.io/library/broken:1"))
		m.next(t, "imported", "broken.tar")
	})
	t.Run("a new version in the same file takes the place of the old one", func(t *testing.T) {
		write(t, in("a.tar"), archive(t, "docker.io/library/a:2"))
		m.next(t, "imported", "a.tar", "docker.io/library/a:2")
		h.wantPinned(t, "a:2", true)
		h.wantPinned(t, "a:1", false)
	})
	t.Run("one that is taken away leaves its images to garbage collection", func(t *testing.T) {
		if err := os.Remove(in("b.tar.gz")); err != nil {
			t.Fatal(err)
		}
		m.next(t, "is gone", "b.tar.gz")
		h.wantPinned(t, "b:1", false)
	})
	t.Run("images without a name get the file's", func(t *testing.T) {
		write(t, in("My App_v2.tar"), nameless(t, archive(t, "docker.io/library/n:1"), ""))
		m.next(t, "imported", "docker.io/library/my-app-v2:latest")
		h.wantPinned(t, "my-app-v2:latest", true)
		write(t, in("tagged.tar"), nameless(t, archive(t, "docker.io/library/n:1"), "v3"))
		m.next(t, "imported", "docker.io/library/tagged:v3")
	})
	stop()

	t.Run("unchanged archives are not imported again", func(t *testing.T) {
		m, stop := h.start(t)
		defer stop()
		m.none(t)
	})
	t.Run("an archive whose image vanished is", func(t *testing.T) {
		_, err := h.cri.RemoveImage(t.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: "late:1"}})
		if err != nil {
			t.Fatal(err)
		}
		m, stop := h.start(t)
		defer stop()
		m.next(t, "imported", "late.tar")
		h.wantPinned(t, "late:1", true)
		m.none(t)
	})
}
