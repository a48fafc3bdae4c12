package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
)

// NotRunningError says that nobody answers.
type NotRunningError struct {
	Socket string
	Reason string
}

func (e *NotRunningError) Error() string {
	return fmt.Sprintf("skiff is not running (%s %s): start it with \"systemctl start skiff\" or \"skiff server\"", e.Reason, e.Socket)
}

// Do sends a request to the skiff that listens on socket.
func Do(socket string, req *http.Request) (*http.Response, error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, explain(socket, err)
	}
	return resp, nil
}

// Get asks the skiff that listens on socket what it does.
func Get(ctx context.Context, socket string) (Report, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://skiff"+path, nil)
	if err != nil {
		return Report{}, err
	}
	resp, err := Do(socket, req)
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return Report{}, fmt.Errorf("asking skiff on %s: %s: %s", socket, resp.Status, body)
	}
	var r Report
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		return Report{}, fmt.Errorf("reading the answer of skiff on %s: %w", socket, err)
	}
	return r, nil
}

func explain(socket string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &NotRunningError{Socket: socket, Reason: "there is no socket"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &NotRunningError{Socket: socket, Reason: "nobody listens on the socket"}
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("only the user that runs skiff may open %s: try again with sudo", socket)
	}
	return fmt.Errorf("asking skiff on %s: %w", socket, err)
}
