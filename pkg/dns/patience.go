package dns

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
)

// grantWait is how long the first start may take to give this node its rights.
const grantWait = 10 * time.Second

// patient makes a client that asks again when it is forbidden to read: on the
// first start of a cluster the API server answers a moment before the roles are
// there. An informer would wait for a second or more before its next try, and
// the first pods would wait with it.
func patient(client *rest.Config) *rest.Config {
	client = rest.CopyConfig(client)
	client.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return &patience{next: next}
	})
	return client
}

type patience struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (p *patience) RoundTrip(r *http.Request) (*http.Response, error) {
	var forbidden time.Time // since when; the first answer may take as long as the API server's start
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		answer, err := p.next.RoundTrip(r)
		if err != nil || r.Method != http.MethodGet || answer.StatusCode != http.StatusForbidden {
			return answer, err
		}
		if forbidden.IsZero() {
			forbidden = time.Now()
		}
		if time.Since(forbidden) > grantWait {
			return answer, nil
		}
		_, _ = io.Copy(io.Discard, answer.Body) // what it says is known
		_ = answer.Body.Close()
		select {
		case <-r.Context().Done():
			return nil, fmt.Errorf("waiting for the right to read: %w", r.Context().Err())
		case <-time.After(wait):
		}
	}
}
