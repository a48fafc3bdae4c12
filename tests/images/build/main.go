// Command build writes the archives of the test images into a directory. The
// Makefile and people call it; it imports tests/images only.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/skiff-k8s/skiff/tests/images"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: go run ./tests/images/build DIRECTORY")
	}
	if err := os.MkdirAll(args[0], 0o755); err != nil {
		return err
	}
	paths, err := images.WriteAll(context.Background(), args[0])
	for _, p := range paths {
		fmt.Println(p)
	}
	return err
}
