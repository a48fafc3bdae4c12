package main

import (
	"errors"
	"fmt"
)

var errEnded = errors.New("a process ended")

// waitError says what was waited for in vain.
type waitError struct {
	what string
	err  error
}

func (e waitError) Error() string { return fmt.Sprintf("waiting until %s: %v", e.what, e.err) }

func (e waitError) Unwrap() error { return e.err }

// stated puts the system's own words behind an error.
func stated(s system, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w\n%s", s.Name(), err, s.Logs())
}
