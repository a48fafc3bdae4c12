package main

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// within calls do on a thread that is in the network namespace of a host: the
// sockets that do opens in its own goroutine belong there, and go on belonging
// there. The thread ends with do.
func within(h *framework.Host, do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: a thread that has moved is of no other use
		if err := enterNetwork(h); err != nil {
			done <- err
			return
		}
		done <- do()
	}()
	return <-done
}

func enterNetwork(h *framework.Host) error {
	f, err := os.Open(proc(h.PID(), "ns/net"))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering the network of host %s: %w", h.ID(), err)
	}
	return nil
}
