package inproc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/apiserver/pkg/authentication/user"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect makes a client that acts as "tester" of a handler.
func connect(t *testing.T, h http.HandlerFunc) *http.Client {
	t.Helper()
	sb := New()
	sb.Connect(h)
	return &http.Client{Transport: sb.Config(&user.DefaultInfo{Name: "tester", Groups: []string{"testers"}}).Transport}
}

func get(t *testing.T, ctx context.Context, c *http.Client, path string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestARequestArrivesAsFromAConnection(t *testing.T) {
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		who, ok, err := Authenticator(nil).AuthenticateRequest(r)
		if err != nil || !ok {
			t.Errorf("not authenticated: %v", err)
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Answer", "yes")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "%s %s %s %s %s", who.User.GetName(), r.Method, r.RequestURI, r.Proto, body)
	})
	res, err := c.Post(host+"/api/v1/pods?limit=1", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if want := "tester POST /api/v1/pods?limit=1 HTTP/2.0 hello"; err != nil || string(body) != want {
		t.Errorf("body %q, %v: want %q", body, err, want)
	}
	if res.StatusCode != http.StatusCreated || res.Header.Get("X-Answer") != "yes" || res.ContentLength != int64(len(body)) {
		t.Errorf("status %d, header %v, length %d", res.StatusCode, res.Header, res.ContentLength)
	}
}

func TestARequestOfTheNetworkHasNoIdentity(t *testing.T) {
	r, _ := http.NewRequest(http.MethodGet, host, nil)
	r = r.WithContext(context.WithValue(r.Context(), "identity", &user.DefaultInfo{Name: "system:admin"})) //nolint:staticcheck // what a stranger could try
	if _, ok, _ := Authenticator(nil).AuthenticateRequest(r); ok {
		t.Error("a request that did not come through a Switchboard was recognised")
	}
}

func TestRequestsWaitForTheHandler(t *testing.T) {
	sb := New()
	c := &http.Client{Transport: sb.Config(&user.DefaultInfo{Name: "early"}).Transport}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("not waiting any longer")
	cancel(gone)
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, host, nil)
	if _, err := c.Do(r); !errors.Is(err, gone) {
		t.Errorf("error %v: want the reason why the request ended", err)
	}
	answered := make(chan string)
	go func() {
		res := get(t, t.Context(), c, "/")
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		answered <- string(body)
	}()
	sb.Connect(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "here") }))
	if got := <-answered; got != "here" {
		t.Errorf("answer %q", got)
	}
}

func TestAWatchStreams(t *testing.T) {
	events := make(chan string)
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		for {
			select {
			case e := <-events:
				io.WriteString(w, e)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	res := get(t, t.Context(), c, "/watch")
	buf := make([]byte, 16)
	for _, e := range []string{"one", "two"} {
		events <- e
		n, err := res.Body.Read(buf)
		if err != nil || string(buf[:n]) != e {
			t.Fatalf("read %q, %v: want %q", buf[:n], err, e)
		}
	}
	if err := res.Body.Close(); err != nil {
		t.Error(err)
	}
	// goleak finds the handler if Close does not end its context.
}

func TestTheEndOfTheContextEndsAStream(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	res := get(t, ctx, c, "/watch")
	defer res.Body.Close()
	cancel()
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Errorf("the stream ended with %v: want a plain end", err)
	}
}

func TestALargeAnswerIsWhole(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB, many times the buffer
	c := connect(t, func(w http.ResponseWriter, _ *http.Request) {
		for rest := want; len(rest) > 0; rest = rest[min(len(rest), 5000):] {
			if _, err := w.Write(rest[:min(len(rest), 5000)]); err != nil {
				t.Error(err)
				return
			}
		}
	})
	res := get(t, t.Context(), c, "/")
	defer res.Body.Close()
	got, err := io.ReadAll(iotestOneByteAhead{res.Body})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v: want %d, the same", len(got), err, len(want))
	}
}

// iotestOneByteAhead reads in odd sizes, so that the buffer is never read out.
type iotestOneByteAhead struct{ io.Reader }

func (r iotestOneByteAhead) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(len(p), 777)]) }

func TestASlowReaderHoldsTheHandlerUp(t *testing.T) {
	wrote := make(chan int, 1)
	c := connect(t, func(w http.ResponseWriter, _ *http.Request) {
		total := 0
		for range 1000 {
			n, err := w.Write(make([]byte, 1024))
			total += n
			if err != nil {
				break
			}
		}
		wrote <- total
	})
	res := get(t, t.Context(), c, "/")
	res.Body.Close() // reads nothing
	select {
	case n := <-wrote:
		if n > 2*streamBuffer {
			t.Errorf("the handler wrote %d bytes that nobody read: want at most about %d", n, streamBuffer)
		}
	case <-time.After(10 * time.Second):
		t.Error("the handler was not told that the client left")
	}
}

func TestAPanicBreaksTheAnswerOff(t *testing.T) {
	c := connect(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	res := get(t, t.Context(), c, "/")
	defer res.Body.Close()
	if _, err := io.ReadAll(res.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v: want io.ErrUnexpectedEOF, as for a connection that broke", err)
	}
}
