package inproc

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
)

// streamBuffer bounds what a slow reader of a stream can make the process
// hold: past it the handler waits, as it would for a full TCP window.
const streamBuffer = 64 << 10

var errClosed = errors.New("the client closed the response")

// response is the handler's http.ResponseWriter and the client's response body
// in one. The client is woken once for a response that fits the buffer, and
// then for each flush of a stream.
type response struct {
	cancel  context.CancelCauseFunc
	started chan struct{} // closed when the client may look at the response

	mu       sync.Mutex
	changed  *sync.Cond
	header   http.Header
	sent     http.Header // copy of header as of WriteHeader
	status   int
	buf      []byte
	off      int // start of what was not read yet
	begun    bool
	finished bool
	err      error // why the body ends, nil for io.EOF
	closed   bool  // by the client
}

func newResponse(cancel context.CancelCauseFunc) *response {
	w := &response{cancel: cancel, started: make(chan struct{}), header: http.Header{}}
	w.changed = sync.NewCond(&w.mu)
	return w
}

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writeHeader(status)
}

func (w *response) writeHeader(status int) {
	if w.status != 0 || status < http.StatusOK {
		return
	}
	w.status, w.sent = status, w.header.Clone()
}

// Write implements http.ResponseWriter. It blocks while the client is behind.
func (w *response) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writeHeader(http.StatusOK)
	for {
		if w.closed {
			return 0, errClosed
		}
		if len(w.buf)-w.off < streamBuffer {
			break
		}
		w.begin()
		w.changed.Broadcast() // a reader may be waiting for more than the last flush
		w.changed.Wait()
	}
	if w.off > 0 && len(w.buf)+len(p) > cap(w.buf) {
		w.buf, w.off = w.buf[:copy(w.buf, w.buf[w.off:])], 0
	}
	w.buf = append(w.buf, p...)
	return len(p), nil
}

// Flush implements http.Flusher: what was written becomes readable.
func (w *response) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writeHeader(http.StatusOK)
	w.begin()
	w.changed.Broadcast()
}

// CloseNotify implements http.CloseNotifier, by which the handler chain tells
// an HTTP/2 response. The request's context says the same.
func (w *response) CloseNotify() <-chan bool { return make(chan bool, 1) }

// begin lets the client see the response; w.mu is held.
func (w *response) begin() {
	if !w.begun {
		w.begun = true
		close(w.started)
	}
}

// finish ends the body after the handler returned.
func (w *response) finish(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writeHeader(http.StatusOK)
	w.finished, w.err = true, err
	w.begin()
	w.changed.Broadcast()
}

// abandon is called when the client stopped waiting before the response began.
func (w *response) abandon(cause error) {
	w.mu.Lock()
	w.closed = true
	w.changed.Broadcast()
	w.mu.Unlock()
	w.cancel(cause)
}

func (w *response) result(r *http.Request) *http.Response {
	w.mu.Lock()
	defer w.mu.Unlock()
	res := &http.Response{
		Status:        http.StatusText(w.status),
		StatusCode:    w.status,
		Proto:         "HTTP/2.0",
		ProtoMajor:    2,
		Header:        w.sent,
		Body:          w,
		ContentLength: -1,
		Request:       r,
	}
	if w.finished && w.err == nil {
		res.ContentLength = int64(len(w.buf) - w.off)
	}
	return res
}

// Read implements io.Reader for the client.
func (w *response) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case w.closed:
			return 0, errClosed
		case w.off < len(w.buf):
			n := copy(p, w.buf[w.off:])
			w.off += n
			w.changed.Broadcast()
			return n, nil
		case w.finished && w.err != nil:
			return 0, errors.Join(io.ErrUnexpectedEOF, w.err)
		case w.finished:
			return 0, io.EOF
		}
		w.changed.Wait()
	}
}

// Close implements io.Closer for the client: it ends the handler's context.
func (w *response) Close() error {
	w.mu.Lock()
	w.closed = true
	w.buf, w.off = nil, 0
	w.changed.Broadcast()
	w.mu.Unlock()
	w.cancel(errClosed)
	return nil
}
