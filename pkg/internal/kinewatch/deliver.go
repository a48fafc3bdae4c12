package kinewatch

import (
	"context"

	"github.com/k3s-io/kine/pkg/server"
)

// Subscribe begins a watch of a range from a revision on, 0 for from now. What it
// returns must be called: it sends the events, each exactly once and in order,
// until ctx or the hub ends, or sending or reading fails, and returns why.
func (h *Hub) Subscribe(r Range, from int64) (watch func(ctx context.Context, send func([]*server.Event) error) error) {
	w, _ := h.subscribe(r, from)
	return func(ctx context.Context, send func([]*server.Event) error) error {
		defer h.unsubscribe(w)
		return h.deliver(ctx, w, from, send, func() {})
	}
}

// deliver does so for a watcher. It calls rest when nothing is left to send.
func (h *Hub) deliver(ctx context.Context, w *watcher, from int64, send func([]*server.Event) error, rest func()) error {
	if from > 0 && from <= h.source.Compacted() {
		return server.ErrCompacted
	}
	for {
		select {
		case <-w.wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-h.ctx.Done():
			return h.ctx.Err()
		}
		if err := h.drain(ctx, w, send); err != nil {
			return err
		}
		rest()
	}
}

// drain sends what there is.
func (h *Hub) drain(ctx context.Context, w *watcher, send func([]*server.Event) error) error {
	for {
		events, from, to := h.take(w)
		if len(events) == 0 && to == 0 {
			return nil
		}
		var position int64
		if to > 0 {
			var err error
			if events, position, err = h.source.History(ctx, w.Range, from, to); err != nil {
				return err
			}
		}
		if len(events) > 0 {
			if err := send(events); err != nil {
				return err
			}
		}
		h.delivered(w, position)
	}
}
