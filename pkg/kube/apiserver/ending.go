package apiserver

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// endingGrace is how long requests that are being answered may go on once the
// server is to stop. Most take milliseconds; watches would take hours.
const endingGrace = 500 * time.Millisecond

var errEnding = errors.New("the API server is stopping")

// endWith ends the requests that next still answers some time after ctx has
// ended. Upstream waits for watches of agents and of people for as long as a
// minute; they look for a server again in any case.
func endWith(ctx context.Context, next http.Handler) http.Handler {
	ending, end := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(endingGrace, end) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answering, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		defer context.AfterFunc(ending, func() { cancel(errEnding) })()
		next.ServeHTTP(w, r.WithContext(answering))
	})
}
