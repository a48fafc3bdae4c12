package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Client has a running server do what a Service does.
type Client struct {
	// Do sends requests to the server's socket.
	Do func(*http.Request) (*http.Response, error)
}

var _ Service = Client{}

// Save implements Service.
func (c Client) Save(ctx context.Context, prefix string, report func(Progress)) ([]Info, error) {
	return c.ask(ctx, http.MethodPost, request{Name: prefix}, report)
}

// List implements Service.
func (c Client) List(ctx context.Context) ([]Info, error) {
	return c.ask(ctx, http.MethodGet, request{}, nil)
}

// Delete implements Service.
func (c Client) Delete(ctx context.Context, name string) ([]Info, error) {
	return c.ask(ctx, http.MethodDelete, request{Name: name}, nil)
}

// Prune implements Service.
func (c Client) Prune(ctx context.Context, prefix string, keep int) ([]Info, error) {
	return c.ask(ctx, http.MethodDelete, request{Name: prefix, Prune: true, Keep: keep}, nil)
}

func (c Client) ask(ctx context.Context, method string, what request, report func(Progress)) ([]Info, error) {
	body, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://skiff"+Path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return nil, fmt.Errorf("the running skiff answers %s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	for lines := json.NewDecoder(resp.Body); ; {
		var a answer
		if err := lines.Decode(&a); err != nil {
			return nil, fmt.Errorf("the server ended before it had answered: %w", err)
		}
		switch {
		case a.Progress != nil && report != nil:
			report(*a.Progress)
		case a.Done && a.Error != "":
			return a.Snapshots, errors.New(a.Error)
		case a.Done:
			return a.Snapshots, nil
		}
	}
}
