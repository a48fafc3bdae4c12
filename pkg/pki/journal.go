package pki

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// journal gathers what one Ensure makes, so that it is logged as a line or two
// and not as a dozen: each file is a debug message. It is safe for concurrent
// use.
type journal struct {
	log *logrus.Entry

	mu     sync.Mutex
	keys   []string // the cluster's own, by name
	leaves []string // subjects of certificates
	until  time.Time
	why    []string
}

// key notes a CA or other key of the cluster that was made.
func (j *journal) key(name, file string) {
	j.log.WithField("file", file).Debugf("Made the %s", name)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.keys = append(j.keys, name)
}

// leaf notes a certificate that was issued, and why.
func (j *journal) leaf(subject, file, reason string, until time.Time) {
	j.log.WithField("file", file).WithField("reason", reason).
		Debugf("Issued the certificate of %s, valid until %s", subject, until.Format(time.DateOnly))
	j.mu.Lock()
	defer j.mu.Unlock()
	j.leaves = append(j.leaves, subject)
	if j.until.IsZero() || until.Before(j.until) {
		j.until = until
	}
	if !slices.Contains(j.why, reason) {
		j.why = append(j.why, reason)
	}
}

// report logs what was made. Call it when nothing is being made any more.
func (j *journal) report() {
	if len(j.keys) > 0 {
		slices.Sort(j.keys)
		j.log.Infof("Made the cluster's keys: %s", strings.Join(j.keys, ", "))
	}
	if len(j.leaves) > 0 {
		slices.Sort(j.leaves)
		slices.Sort(j.why)
		j.log.WithField("reason", strings.Join(j.why, "; ")).Infof("Issued %d certificates, valid until %s: %s",
			len(j.leaves), j.until.Format(time.DateOnly), strings.Join(slices.Compact(j.leaves), ", "))
	}
}
