package integration

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/pkg/join"
	"github.com/skiff-k8s/skiff/tests/framework"
)

// TestAServerIsKilledWhileItReplacesItsToken checks that one of the two holds
// afterwards, and replaces it for good.
func TestAServerIsKilledWhileItReplacesItsToken(t *testing.T) {
	for name, args := range map[string][]string{"SQLite": nil, "etcd": {"--cluster-init"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := suite.NewCluster(t)
			h := c.NewHost(t, "first")
			start := func() *framework.Server {
				s := h.StartServer(t, append([]string{"--disable-agent"}, args...)...)
				s.AwaitAPI(t)
				return s
			}
			server := start()
			took := replaceToken(t, server, "whole")
			for _, next := range strings.Fields("one two three four five") {
				old := readToken(t, h, "token")
				answered := make(chan error, 1)
				go func() {
					_, err := join.Rotate(t.Context(), server.URL(), old, next, false)
					answered <- err
				}()
				<-time.After(rand.N(took + took/4)) // a moment of it, whichever
				server.Kill9(t)
				err := <-answered
				server = start()
				switch now := readToken(t, h, "token").Secret(); {
				case now != next && now != old.Secret():
					t.Fatalf("the token after the kill is neither the old nor the new one")
				case now != next && err == nil:
					t.Fatalf("the new token was acknowledged and does not hold")
				}
				// The same again finishes it, for who still has the old one or was
				// told of the new one.
				if readToken(t, h, "token").Secret() == old.Secret() {
					replaceToken(t, server, next)
				}
			}
			if len(args) == 0 {
				return
			}
			// What another server opens with the token is sealed with it.
			other := c.NewHost(t, "second")
			second := other.StartServer(t, "--disable-agent", "--server="+server.URL(), "--token="+server.Token(t))
			second.AwaitAPI(t)
		})
	}
}

// replaceToken replaces the server token by the one in its file, checks that the
// new one alone holds, and says how long it took.
func replaceToken(t *testing.T, server *framework.Server, next string) time.Duration {
	t.Helper()
	old, begin := readToken(t, server.Host, "token"), time.Now()
	if _, err := join.Rotate(t.Context(), server.URL(), old, next, false); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	if now := readToken(t, server.Host, "token"); now.Secret() != next {
		t.Fatal("the file has another token than the one that was chosen")
	}
	if _, err := join.Rotate(t.Context(), server.URL(), old, "by-the-old-one", false); err == nil {
		t.Fatal("the old token still replaces the new one")
	}
	return took
}
