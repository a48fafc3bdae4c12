package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// Where the audit log is, in the host's memory.
const (
	auditPolicy = "/run/audit-policy.yaml"
	auditLog    = "/run/audit.log"
)

const auditRules = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
`

// clients restarts the system with an audit log, which its metrics can not
// replace, and counts who asks for what while it is idle. The system
// is not on its default settings any more: later steps start it again.
func clients(ctx context.Context, s system, o options, record recorder) error {
	if err := os.WriteFile(s.Host().Path(auditPolicy), []byte(auditRules), 0o600); err != nil {
		return err
	}
	s.ServeWith("audit-policy-file="+auditPolicy, "audit-log-path="+auditLog)
	if err := restart(ctx, s, o, func(value) {}); err != nil {
		return err
	}
	if err := pass(ctx, s, o.settle); err != nil {
		return err
	}
	log := s.Host().Path(auditLog)
	before, err := os.ReadFile(log)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := pass(ctx, s, min(o.idle, time.Minute)); err != nil {
		return err
	}
	after, err := os.ReadFile(log)
	if err != nil {
		return err
	}
	minutes := time.Since(begin).Minutes()
	asked, err := countClients(after[len(before):], s.Host().Hostname())
	if err != nil {
		return fmt.Errorf("reading the audit log: %w", err)
	}
	byUser := map[string]int{}
	for what, n := range asked {
		byUser[what.user] += n
	}
	for _, user := range mostFirst(byUser, strings.Compare) {
		record(value{"client/" + user, user, "1/min", float64(byUser[user]) / minutes})
	}
	for _, what := range mostFirst(asked, func(a, b asking) int { return strings.Compare(a.String(), b.String()) }) {
		record(value{"asks/" + what.String(), what.String(), "1/min", float64(asked[what]) / minutes})
	}
	return nil
}

// mostFirst are the keys by their counts, then in order.
func mostFirst[K comparable](counts map[K]int, order func(a, b K) int) []K {
	return slices.SortedFunc(maps.Keys(counts), func(a, b K) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), order(a, b))
	})
}

// asking is a kind of request of one user.
type asking struct{ user, verb, what string }

func (a asking) String() string { return a.user + ": " + a.verb + " " + a.what }

// auditEvent is what matters of one.
type auditEvent struct {
	Stage, Verb, RequestURI, UserAgent string
	User                               struct{ Username string }
	ObjectRef                          struct{ Resource, Subresource string }
}

// countClients counts requests by user, verb and resource. The node's name is
// another one on each host.
func countClients(log []byte, node string) (map[asking]int, error) {
	asked := map[asking]int{}
	for line := range bytes.Lines(log) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // being written
		}
		var e auditEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, err
		}
		once := "ResponseComplete"
		if e.Verb == "watch" {
			once = "ResponseStarted"
		}
		if e.Stage == once && e.UserAgent != userAgent {
			asked[asking{strings.ReplaceAll(e.User.Username, node, "NODE"), e.Verb, e.what()}]++
		}
	}
	return asked, nil
}

func (e auditEvent) what() string {
	if e.ObjectRef.Resource == "" {
		path, _, _ := strings.Cut(e.RequestURI, "?")
		return path
	}
	return strings.TrimSuffix(e.ObjectRef.Resource+"/"+e.ObjectRef.Subresource, "/")
}
