// Package jsonreply answers requests to Skiff's own API. Whatever serves some
// of that API may import it.
package jsonreply

import (
	"encoding/json"
	"net/http"
)

// Write answers with a status and a body as JSON, which nobody may keep: some
// answers have keys in them. The types of package protocol all encode; for one
// that does not, the answer is status 500.
func Write(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // a client that left does not need it
}
