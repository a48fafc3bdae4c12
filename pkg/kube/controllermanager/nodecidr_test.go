package controllermanager

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

type answer int

func (a answer) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: int(a)}, nil
}

func TestCIDRTransport(t *testing.T) {
	for _, tc := range []struct {
		name         string
		method, path string
		status       answer
		settled      time.Duration
		took         time.Duration
	}{
		{"a node's new addresses are waited for", http.MethodPatch, "/api/v1/nodes/one", http.StatusOK, 5 * time.Millisecond, 6 * time.Millisecond},
		{"what is settled is not waited for", http.MethodPatch, "/api/v1/nodes/one", http.StatusOK, 0, 0},
		{"a cache that never follows is not waited for long", http.MethodPatch, "/api/v1/nodes/one", http.StatusOK, time.Hour, cidrWait},
		{"a refusal is not waited for", http.MethodPatch, "/api/v1/nodes/one", http.StatusUnprocessableEntity, time.Hour, 0},
		{"a status is not waited for", http.MethodPatch, "/api/v1/nodes/one/status", http.StatusOK, time.Hour, 0},
		{"reading is not waited for", http.MethodGet, "/api/v1/nodes/one", http.StatusOK, time.Hour, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				transport := cidrTransport{tc.status, func(node string) bool {
					return node == "one" && time.Since(begin) >= tc.settled
				}}
				resp, err := transport.RoundTrip(httptest.NewRequestWithContext(t.Context(), tc.method, tc.path, nil))
				if err != nil || resp.StatusCode != int(tc.status) {
					t.Errorf("answer %v, %v", resp, err)
				}
				if took := time.Since(begin); took != tc.took {
					t.Errorf("took %v, want %v", took, tc.took)
				}
			})
		})
	}
}
