// Command hollow is a crowd of nodes without containers: for each of them
// upstream's hollow kubelet and hollow proxy (kubemark) with the clients,
// watches and heartbeats of real ones, above a runtime that only keeps books.
// It reads one description as JSON from standard input, runs until that input
// ends, and leaves nothing behind: its files are in a temporary file system
// that nobody else sees. tests/bench starts it; nobody imports it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// crowd is what is read from standard input; tests/bench writes it.
type crowd struct {
	Server  string            `json:"server"`  // URL of the API
	CA      []byte            `json:"ca"`      // PEM, whom to trust there
	Address string            `json:"address"` // of all nodes, one of this machine
	Labels  map[string]string `json:"labels"`  // of all nodes
	Proxy   identity          `json:"proxy"`   // of kube-proxy on every node
	Nodes   []identity        `json:"nodes"`
}

// identity is a client's certificate, PEM.
type identity struct {
	Name string `json:"name"` // of the node
	Cert []byte `json:"cert"`
	Key  []byte `json:"key"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "hollow:", err)
		os.Exit(1)
	}
}

func run() error {
	in := json.NewDecoder(os.Stdin)
	var c crowd
	if err := in.Decode(&c); err != nil {
		return fmt.Errorf("reading the description of the nodes: %w", err)
	}
	if err := hideFiles(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	failed := make(chan error, 1)
	for _, node := range c.Nodes {
		if err := start(ctx, c, node, failed); err != nil {
			return fmt.Errorf("node %s: %w", node.Name, err)
		}
	}
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		failed <- err
	}()
	return <-failed
}

// hideFiles puts a file system in memory over /tmp, where kubemark keeps the
// directories of its kubelets. tests/bench gives the process a mount namespace
// of its own.
func hideFiles() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping mounts to this process: %w", err)
	}
	own, err1 := os.Readlink("/proc/self/ns/mnt")
	parents, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", os.Getppid()))
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if own == parents {
		return errors.New("this needs a mount namespace of its own: let tests/bench start it")
	}
	if err := unix.Mount("hollow", "/tmp", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700"); err != nil {
		return fmt.Errorf("mounting a file system on /tmp: %w", err)
	}
	return nil
}
