package snapshot

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
)

// Path is where a running server answers about snapshots, below its socket,
// which only root may open.
const Path = "/v1/snapshots"

// answer is what is sent back: a line of JSON each for progress, then one with
// the result.
type answer struct {
	Progress  *Progress `json:"progress,omitempty"`
	Snapshots []Info    `json:"snapshots,omitempty"`
	// Error is why something, or all, did not succeed.
	Error string `json:"error,omitempty"`
	Done  bool   `json:"done,omitempty"`
}

// request is what is asked for beside the method: POST saves, DELETE deletes
// Name or, with Prune, what is old.
type request struct {
	Name  string `json:"name,omitempty"`
	Prune bool   `json:"prune,omitempty"`
	Keep  int    `json:"keep,omitempty"`
}

// Handler answers on the server's socket.
func (k *Keeper) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ask request
		if r.Method != http.MethodGet {
			if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&ask); err != nil {
				http.Error(w, "the request cannot be understood: "+strconv.Quote(err.Error()), http.StatusBadRequest)
				return
			}
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		to := json.NewEncoder(w)
		send := func(a answer) {
			_ = to.Encode(a) // a client that left does not need it
			_ = http.NewResponseController(w).Flush()
		}
		all, err := k.answer(r.Context(), r.Method, ask, func(p Progress) { send(answer{Progress: &p}) })
		last := answer{Snapshots: all, Done: true}
		if err != nil {
			last.Error = err.Error()
		}
		send(last)
	})
}

func (k *Keeper) answer(ctx context.Context, method string, ask request, report func(Progress)) ([]Info, error) {
	switch {
	case method == http.MethodGet:
		return k.List(ctx)
	case method == http.MethodPost:
		return k.Save(ctx, ask.Name, report)
	case ask.Prune:
		return k.Prune(ctx, ask.Name, ask.Keep)
	}
	return k.Delete(ctx, ask.Name)
}
