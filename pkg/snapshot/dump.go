package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// A page is as many keys as were about pageBytes before, so that neither
	// memory nor a reader of the datastore is held for long.
	firstPage = 100
	maxPage   = 2000
	pageBytes = 2 << 20

	// attempts bounds how often a read is begun again that a compaction has
	// overtaken.
	attempts = 3
)

// Progress is how far the making of a snapshot, or a restore, is.
type Progress struct {
	Keys  int64 `json:"keys"`
	Total int64 `json:"total"`
}

// every is the time between two reports of progress; what takes less has none.
const every = time.Second

// reporter calls report at most once in every.
type reporter struct {
	report func(Progress)
	last   time.Time
}

func newReporter(report func(Progress)) *reporter {
	return &reporter{report: report, last: time.Now()}
}

func (r *reporter) at(p Progress) {
	if r.report != nil && time.Since(r.last) >= every {
		r.last = time.Now()
		r.report(p)
	}
}

// Keys are those of a cluster in its datastore.
type Keys struct {
	// Prefixes are what they begin with: an external etcd may have others, too.
	Prefixes []string
	// Omit are keys that a cluster makes anew: they say what is the case at the
	// moment, or are in the metadata already.
	Omit []string
}

// dump writes these keys as they are at one revision, which
// it gives. Writers of the datastore are not held up: no lock is taken, and old
// values stay readable until they are compacted. Keys with a lease are left out:
// events, and what says which servers run. begun is called when the revision is
// fixed.
func dump(ctx context.Context, from clientv3.KV, keys Keys, to *Writer, begun func() error, progress *reporter) (revision int64, err error) {
	d := &dumping{from: from, omit: keys.Omit, to: to, progress: progress, limit: firstPage}
	for _, prefix := range keys.Prefixes {
		// kine's first page of a list may be older than the revision that it
		// names: only what is asked for at a revision is of one moment.
		end := clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix))
		count, err := from.Get(ctx, prefix, end, clientv3.WithRev(d.revision), clientv3.WithCountOnly())
		if err != nil {
			return 0, fmt.Errorf("reading the datastore: %w", err)
		}
		d.done.Total += count.Count
		if d.revision == 0 {
			d.revision = count.Header.Revision
			if err := begun(); err != nil {
				return 0, err
			}
		}
	}
	for _, prefix := range keys.Prefixes {
		if err := d.prefix(ctx, prefix); err != nil {
			return 0, err
		}
	}
	return d.revision, nil
}

// dumping is the state of one dump.
type dumping struct {
	from     clientv3.KV
	omit     []string
	to       *Writer
	progress *reporter

	revision int64
	done     Progress
	limit    int64 // keys of the next page
}

func (d *dumping) prefix(ctx context.Context, prefix string) error {
	start, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	for {
		page, err := d.from.Get(ctx, start, clientv3.WithRange(end), clientv3.WithRev(d.revision), clientv3.WithLimit(d.limit))
		if err != nil {
			return fmt.Errorf("reading the datastore: %w", err)
		}
		size := 0
		for _, kv := range page.Kvs {
			size += len(kv.Value)
			if kv.Lease != 0 || slices.Contains(d.omit, string(kv.Key)) {
				continue
			}
			if err := d.to.Add(kv); err != nil {
				return err
			}
		}
		d.done.Keys += int64(len(page.Kvs))
		d.progress.at(d.done)
		if !page.More || len(page.Kvs) == 0 {
			return nil
		}
		start = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
		d.limit = nextPage(int64(len(page.Kvs)), size)
	}
}

// nextPage is the number of keys that would have been pageBytes.
func nextPage(keys int64, size int) int64 {
	fits := keys * pageBytes / int64(max(size, 1))
	return max(1, min(fits, 2*keys, maxPage))
}

// errKeysChanged says that the cluster's keys are not those from before the
// revision that is read, and may not open what it has.
var errKeysChanged = errors.New("the cluster's keys are being changed")

// overtaken says whether beginning again helps: keys have changed, or a
// compaction has taken away the revision that was being read, which comes
// minutes after it.
func overtaken(err error) bool {
	return errors.Is(err, rpctypes.ErrCompacted) || errors.Is(err, errKeysChanged)
}
