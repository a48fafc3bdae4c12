// Command launcher is the small program that a released skiff starts as. It
// carries the main program compressed, unpacks it once below the data
// directory, and becomes it: same process, same arguments, same name.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/skiff-k8s/skiff/pkg/embedded"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	program, err := unpack(ctx, append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...))
	stop()
	if err == nil {
		err = syscall.Exec(program, os.Args, os.Environ())
	}
	fmt.Fprintln(os.Stderr, "skiff: starting the program inside:", err)
	os.Exit(1)
}

// unpack returns the path of the main program. It is sought where the cluster
// has its data. Who may not write there, as a user who only wants kubectl, gets
// a copy in the cache directory.
func unpack(ctx context.Context, args []string) (string, error) {
	payload, err := embedded.Open()
	if err != nil {
		return "", err
	}
	defer payload.Close()
	first := dataDir(args, os.Getenv, layout.DefaultConfigDir)
	root, err := payload.Unpack(ctx, layout.Layout{Data: first})
	if err != nil && os.Geteuid() != 0 && errors.Is(err, os.ErrPermission) {
		cache, cacheErr := os.UserCacheDir()
		if cacheErr != nil {
			return "", errors.Join(err, cacheErr)
		}
		root, err = payload.Unpack(ctx, layout.Layout{Data: filepath.Join(cache, "skiff")})
	}
	return filepath.Join(root, "bin", "skiff"), err
}
