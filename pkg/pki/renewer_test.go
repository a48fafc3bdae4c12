package pki

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// fakeClock stands still until it is set, which wakes everyone.
type fakeClock struct {
	mu      sync.Mutex
	time    time.Time
	changed chan struct{}
	waits   chan time.Time // each wait, as it begins
}

func newFakeClock(now time.Time) *fakeClock {
	return &fakeClock{time: now, changed: make(chan struct{}), waits: make(chan time.Time)}
}

func (c *fakeClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.time
}

func (c *fakeClock) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time = now
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *fakeClock) waitUntil(ctx context.Context, t time.Time) error {
	c.mu.Lock()
	changed := c.changed
	c.mu.Unlock()
	select {
	case c.waits <- t:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// startRenewer runs a renewer on a fake clock until the test ends.
func startRenewer(t *testing.T, cfg Config) (*Renewer, *fakeClock, *Certificates) {
	t.Helper()
	certs := ensure(t, cfg, birthday)
	r := NewRenewer(cfg, certs, discard())
	c := newFakeClock(birthday)
	r.clock = c
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() { done <- r.Run(ctx, func() { close(ready) }) }()
	<-ready
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
	return r, c, certs
}

func servedCert(t *testing.T, s *CertSource) *x509.Certificate {
	t.Helper()
	served, err := s.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(served.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestTheRenewerSleepsUntilACertificateIsDueAndServesTheNewOne(t *testing.T) {
	_, c, certs := startRenewer(t, testConfig(t))
	old := servedCert(t, certs.Serving)
	due := <-c.waits
	if !due.Equal(certs.Due) {
		t.Errorf("sleeps until %s, want %s", due, certs.Due)
	}
	c.set(due)
	if next := <-c.waits; next.Sub(due) < 200*24*time.Hour {
		t.Errorf("the next renewal is at %s, %s later", next, next.Sub(due))
	}
	if renewed := servedCert(t, certs.Serving); !renewed.NotAfter.After(old.NotAfter) {
		t.Errorf("serves a certificate valid until %s, as before", renewed.NotAfter)
	}
}

func TestTheRenewerFollowsAddresses(t *testing.T) {
	cfg := testConfig(t)
	r, c, certs := startRenewer(t, cfg)
	<-c.waits
	serving := NodeFilesOf(cfg.Node.Layout).Serving
	key := readCert(t, serving.Cert).PublicKey
	moved := []netip.Addr{netip.MustParseAddr("192.0.2.200")}
	r.SetAddresses(Addresses{Server: moved, Node: moved})
	<-c.waits // asleep again, so the work is done
	if err := servedCert(t, certs.Serving).VerifyHostname("192.0.2.200"); err != nil {
		t.Error(err)
	}
	if err := readCert(t, serving.Cert).VerifyHostname("192.0.2.200"); err != nil {
		t.Error(err)
	}
	if !publicEqual(readCert(t, serving.Cert).PublicKey, key) {
		t.Error("it got another key, which a kubelet that is just starting may read with the old certificate")
	}
	if len(cfg.Server.Addresses) != 1 || cfg.Server.Addresses[0] != netip.MustParseAddr("192.0.2.7") {
		t.Error("the caller's configuration was changed")
	}
}

func TestTheRenewerNoticesAClockThatIsSet(t *testing.T) {
	_, c, certs := startRenewer(t, testConfig(t))
	<-c.waits
	c.set(birthday.Add(3 * 365 * 24 * time.Hour)) // a time server answered at last
	<-c.waits
	if cert := servedCert(t, certs.Serving); c.now().After(cert.NotAfter) {
		t.Errorf("still serves a certificate that expired at %s", cert.NotAfter)
	}
	born := certs.Authorities.Server.Cert.NotBefore
	c.set(born.Add(-time.Hour))
	if until := <-c.waits; !until.Equal(born) {
		t.Errorf("with the clock behind the CA it sleeps until %s, want %s", until, born)
	}
}

func TestTheRenewerTriesAgainLaterAndLater(t *testing.T) {
	cfg := testConfig(t)
	_, c, certs := startRenewer(t, cfg)
	tls := cfg.Server.Layout.TLS()
	aside := tls + ".aside"
	if err := os.Rename(tls, aside); err != nil {
		t.Fatal(err)
	}
	write(t, tls, []byte("in the way"))
	due := <-c.waits
	for _, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
		c.set(due)
		next := <-c.waits
		if got := next.Sub(due); got != want {
			t.Errorf("tries again after %s, want %s", got, want)
		}
		due = next
	}
	remove(t, tls)
	if err := os.Rename(aside, tls); err != nil {
		t.Fatal(err)
	}
	c.set(due)
	<-c.waits
	if cert := servedCert(t, certs.Serving); !cert.NotBefore.After(birthday) {
		t.Error("the certificate was not renewed when it could be")
	}
}

func TestAClockBehindIsReportedAndWaitedFor(t *testing.T) {
	cfg := testConfig(t)
	born := ensure(t, cfg, birthday).Authorities.Server.Cert.NotBefore
	tests := []struct {
		name   string
		layout layout.Layout
		now    time.Time
		want   time.Time // zero: no wait
	}{
		{"no wait with the right time", cfg.Server.Layout, birthday, time.Time{}},
		{"no wait within the day that the CA is backdated", cfg.Server.Layout, birthday.Add(-23 * time.Hour), time.Time{}},
		{"behind the CA's birth, until then", cfg.Server.Layout, birthday.Add(-25 * time.Hour), born},
		{"in 1970 on the first start, until this program existed", layout.Layout{Data: t.TempDir()}, time.Unix(0, 0), firstPlausible},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := newFakeClock(test.now)
			reports := make(chan *ClockError, 10)
			done := make(chan error, 1)
			go func() {
				done <- waitForClock(t.Context(), test.layout, c, func(e *ClockError) { reports <- e })
			}()
			if !test.want.IsZero() {
				if until := <-c.waits; !until.Equal(test.want) {
					t.Errorf("waits until %s, want %s", until, test.want)
				}
				if e := <-reports; e.Error() == "" || !e.NotBefore.Equal(test.want) {
					t.Errorf("reported %v", e)
				}
				c.set(test.want.Add(time.Second))
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNothingIsMadeByAClockThatIsBehind(t *testing.T) {
	cfg := testConfig(t)
	_, err := Ensure(cfg, time.Unix(1000, 0), discard())
	var behind *ClockError
	if !errors.As(err, &behind) {
		t.Fatalf("got %v, want a ClockError", err)
	}
	if left, _ := filepath.Glob(filepath.Join(cfg.Server.Layout.TLS(), "*")); len(left) != 0 {
		t.Errorf("made %v", left)
	}
}

func TestTheSystemClockWaits(t *testing.T) {
	t.Run("until a time that comes", func(t *testing.T) {
		start := time.Now()
		if err := (systemClock{}).waitUntil(t.Context(), start.Add(50*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited < 40*time.Millisecond {
			t.Errorf("waited %s only", waited)
		}
	})
	t.Run("not at all for the past", func(t *testing.T) {
		if err := (systemClock{}).waitUntil(t.Context(), time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("until ctx ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		if err := (systemClock{}).waitUntil(ctx, time.Now().Add(time.Hour)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("not even when ctx has ended before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := timerfdWait(ctx, time.Now().Add(time.Hour)); err != nil {
			t.Errorf("got %v", err)
		}
	})
}
