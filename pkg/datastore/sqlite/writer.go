package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/k3s-io/kine/pkg/server"
	"github.com/sirupsen/logrus"
)

// Bounds of one transaction: enough that the disk's flush is shared by all who
// wait, little enough that none waits long for the others' work.
const (
	maxGroup      = 256
	maxGroupBytes = 8 << 20
)

// errClosed answers writes that arrive while the datastore stops. kine's
// loops take a cancelled context as a normal end.
var errClosed = fmt.Errorf("datastore is stopping: %w", context.Canceled)

type operation int

const (
	opCreate operation = iota
	opUpdate
	opDelete
	opPut // create or update, whichever fits
)

// write is one change that waits for its turn. revision is the one that the
// key must have, 0 for any.
type write struct {
	ctx      context.Context
	op       operation
	key      string
	value    []byte
	lease    int64
	revision int64
	reply    chan outcome
}

// outcome answers a write. kv is what is stored now, previous what was there
// before a write that was done.
type outcome struct {
	revision     int64
	kv, previous *server.KeyValue
	ok           bool
	err          error
}

// writer owns the connection that writes.
type writer struct {
	db       *conn
	log      *logrus.Entry
	slow     time.Duration
	writes   chan *write
	jobs     chan func() // maintenance, between groups
	stop     chan struct{}
	stopped  chan struct{}
	failed   func(error) // called when the database can not go on
	current  int64       // newest committed revision
	publish  func(revision int64, events []*server.Event)
	outcomes []outcome
	events   []*server.Event
	failing  bool // the last transaction failed
	counts   *counters
	space    *space
}

// submit queues a write and waits for its answer. A write whose caller gave up
// may still happen, as in etcd.
func (w *writer) submit(ctx context.Context, r *write) outcome {
	if err := w.queue(ctx, r); err != nil {
		return outcome{err: err}
	}
	return w.answer(r)
}

// queue puts a write where the writer takes it from.
func (w *writer) queue(ctx context.Context, r *write) error {
	r.ctx, r.reply = ctx, make(chan outcome, 1)
	select {
	case w.writes <- r:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-w.stop:
		return errClosed
	}
}

// answer waits for the answer to a write that was queued.
func (w *writer) answer(r *write) outcome {
	select {
	case o := <-r.reply:
		return o
	case <-r.ctx.Done():
		return outcome{err: r.ctx.Err()}
	case <-w.stopped:
	}
	select {
	case o := <-r.reply:
		return o
	default:
		return outcome{err: errClosed}
	}
}

// do runs f on the writer's connection between two groups and waits for it.
func (w *writer) do(ctx context.Context, f func(db *conn) error) error {
	result := make(chan error, 1)
	select {
	case w.jobs <- func() { result <- f(w.db) }:
		return <-result
	case <-ctx.Done():
		return ctx.Err()
	case <-w.stop:
		return errClosed
	}
}

func (w *writer) run() {
	defer close(w.stopped)
	group := make([]*write, 0, maxGroup)
	for {
		select {
		case r := <-w.writes:
			group = w.gather(append(group[:0], r))
			w.commit(group)
			clear(group)
		case job := <-w.jobs:
			job()
		case <-w.stop:
			return
		}
	}
}

// gather takes what waits already and never waits itself: while one group is
// flushed to the disk the next one collects.
func (w *writer) gather(group []*write) []*write {
	size := len(group[0].value)
	for len(group) < maxGroup && size < maxGroupBytes {
		select {
		case r := <-w.writes:
			group = append(group, r)
			size += len(r.value)
		default:
			return group
		}
	}
	return group
}

// commit applies a group in one transaction and answers everyone in it.
func (w *writer) commit(group []*write) {
	start := time.Now()
	w.space.look()
	w.outcomes, w.events = w.outcomes[:0], w.events[:0]
	revision, err := w.apply(group)
	if err != nil {
		err = w.abort(err)
		for _, r := range group {
			r.reply <- outcome{err: err}
		}
		return
	}
	w.current = revision
	if len(w.events) > 0 {
		w.counts.wrote(w.events)
		w.publish(revision, w.events)
		if w.failing {
			w.failing = false
			w.log.Info("Writes to the database succeed again")
		}
	}
	for i, r := range group {
		r.reply <- w.outcomes[i]
	}
	clear(w.outcomes)
	clear(w.events)
	if took := time.Since(start); w.slow > 0 && took >= w.slow {
		w.log.WithFields(logrus.Fields{"writes": len(group), "took": took.Round(time.Millisecond)}).
			Warn("Slow commit: the disk takes long to flush")
	}
}

func (w *writer) apply(group []*write) (revision int64, err error) {
	if err := w.db.exec(beginSQL); err != nil {
		return 0, fmt.Errorf("begin transaction: %w", err)
	}
	revision = w.current
	for _, r := range group {
		o, err := w.one(r, &revision)
		if err != nil {
			return 0, fmt.Errorf("write %s: %w", r.key, err)
		}
		w.outcomes = append(w.outcomes, o)
	}
	if err := w.db.exec(commitSQL); err != nil {
		return 0, fmt.Errorf("commit %d writes: %w", len(group), err)
	}
	w.counts.commits.Add(1)
	return revision, nil
}

// abort ends a transaction that failed. Nothing of it has been acknowledged.
func (w *writer) abort(cause error) error {
	if err := w.db.exec(rollbackSQL); err != nil && !isNoTransaction(err) {
		cause = errors.Join(cause, fmt.Errorf("roll back: %w", err))
	}
	switch {
	case isFatal(cause):
		w.failed(cause)
	case !w.failing: // once: a full disk fails every write
		w.log.WithError(cause).Error("Writes to the database fail")
	}
	w.failing = true
	return clientError(cause)
}

// one applies one write inside the open transaction. A compare that does not
// hold is an outcome; an error ends the whole group.
func (w *writer) one(r *write, revision *int64) (outcome, error) {
	if err := r.ctx.Err(); err != nil {
		return outcome{err: err}, nil
	}
	latest, deleted, err := w.latest(r)
	if err != nil {
		return outcome{}, err
	}
	exists := latest != nil && !deleted
	op := r.op
	if op == opPut {
		op = opCreate
		if exists {
			op = opUpdate
		}
	}
	switch op {
	case opCreate:
		if exists {
			return outcome{revision: *revision, err: server.ErrKeyExists}, nil
		}
	case opUpdate:
		if !exists {
			return outcome{revision: *revision}, nil
		}
	case opDelete:
		if !exists {
			// Without a compare there is nothing that could fail.
			return outcome{revision: *revision, ok: r.revision == 0}, nil
		}
	}
	if op != opCreate && r.revision != 0 && latest.ModRevision != r.revision {
		return outcome{revision: *revision, kv: latest}, nil
	}
	if err := w.space.refuses(op, r.key); err != nil {
		return outcome{revision: *revision, err: err}, nil
	}
	event := newEvent(op, r, latest, *revision+1)
	if err := w.insert(event, latest); err != nil {
		return outcome{}, err
	}
	*revision++
	w.events = append(w.events, event)
	return outcome{revision: *revision, kv: event.KV, previous: event.PrevKV, ok: true}, nil
}

// newEvent is what watchers are told of a write.
func newEvent(op operation, r *write, latest *server.KeyValue, revision int64) *server.Event {
	kv := &server.KeyValue{Key: r.key, ModRevision: revision}
	event := &server.Event{KV: kv}
	switch op {
	case opCreate:
		event.Create = true
		kv.CreateRevision = revision
		kv.Value, kv.Lease = r.value, r.lease
	case opUpdate:
		event.PrevKV = latest
		kv.CreateRevision = latest.CreateRevision
		kv.Value, kv.Lease = r.value, r.lease
	case opDelete:
		event.Delete = true
		event.PrevKV = latest
	}
	return event
}

func (w *writer) insert(e *server.Event, latest *server.KeyValue) error {
	var created, deleted, createRevision, prevRevision int64
	var value any
	if latest != nil {
		prevRevision = latest.ModRevision
	}
	switch {
	case e.Create:
		created = 1
	case e.Delete:
		deleted = 1
	default:
		createRevision = e.KV.CreateRevision
	}
	if !e.Delete {
		value = e.KV.Value
	}
	return w.db.exec(insertSQL, e.KV.ModRevision, e.KV.Key, created, deleted,
		createRevision, prevRevision, e.KV.Lease, value)
}

// latest reads the newest row of the key that a write is about; nil when there
// is none. A create gets no value.
func (w *writer) latest(r *write) (kv *server.KeyValue, deleted bool, err error) {
	query := latestSQL
	if r.op == opCreate {
		query = latestKeySQL
	}
	err = w.db.query(context.Background(), query, func(row []driver.Value) error {
		kv, deleted = scanLatest(r.key, row)
		return nil
	}, r.key)
	return kv, deleted, err
}

// scanLatest turns a row of latestSQL and its like into a key and value.
func scanLatest(key string, row []driver.Value) (kv *server.KeyValue, deleted bool) {
	kv = &server.KeyValue{
		Key:            key,
		ModRevision:    integer(row[0]),
		CreateRevision: integer(row[3]),
		Lease:          integer(row[4]),
	}
	if integer(row[1]) != 0 {
		kv.CreateRevision = kv.ModRevision
	}
	if len(row) > 5 {
		kv.Value = blob(row[5])
	}
	return kv, integer(row[2]) != 0
}
