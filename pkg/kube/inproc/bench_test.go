package inproc

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/grpc/test/bufconn"
	"k8s.io/apiserver/pkg/authentication/user"
)

// BenchmarkTransports compares ways to ask a handler of the same process for
// an object of 2 KiB, eight callers at a time:
//
//	go test -run - -bench Transports -benchmem ./pkg/kube/inproc
func BenchmarkTransports(b *testing.B) {
	object := bytes.Repeat([]byte("x"), 2048)
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf")
		_, _ = w.Write(object)
	})
	for _, way := range []struct {
		name   string
		client func(b *testing.B, h http.Handler) (*http.Client, string)
	}{
		{"call", called},
		{"listener in memory, HTTP2", inMemory},
		{"TCP, TLS, HTTP2", overTLS},
	} {
		b.Run(way.name, func(b *testing.B) {
			c, url := way.client(b, h)
			b.SetParallelism(4)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					res, err := c.Get(url)
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			})
		})
	}
}

func called(_ *testing.B, h http.Handler) (*http.Client, string) {
	sb := New()
	sb.Connect(h)
	return &http.Client{Transport: sb.Config(&user.DefaultInfo{Name: "bench"}).Transport}, host
}

func inMemory(b *testing.B, h http.Handler) (*http.Client, string) {
	l := bufconn.Listen(64 << 10)
	var unencrypted http.Protocols
	unencrypted.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: h, Protocols: &unencrypted}
	go func() { _ = s.Serve(l) }()
	t := &http.Transport{Protocols: &unencrypted, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.DialContext(ctx) }}
	b.Cleanup(func() { t.CloseIdleConnections(); s.Close() })
	return &http.Client{Transport: t}, "http://memory"
}

func overTLS(b *testing.B, h http.Handler) (*http.Client, string) {
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}}
	b.Cleanup(func() { t.CloseIdleConnections(); s.Close() })
	return &http.Client{Transport: t}, s.URL
}
