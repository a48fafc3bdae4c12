// Command conformance runs upstream's end-to-end tests, those that every
// Kubernetes has to pass, against the built binary on a host made of
// namespaces. scripts/conformance builds what it needs and starts it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// options are what the user may choose.
type options struct {
	focus    string        // regular expression of names; empty: all
	skip     string        // regular expression of names
	list     string        // name of a file lists/NAME.txt
	procs    int           // tests at a time
	nodes    int           // of the cluster: a server, and agents for the others
	server   string        // more arguments for skiff server
	parts    string        // directory of what scripts/conformance has built
	lists    string        // directory of lists
	upstream string        // the Kubernetes module's directory
	results  string        // where the results go
	timeout  time.Duration // of everything
}

func main() {
	nshost.RunInit()
	var o options
	flag.StringVar(&o.focus, "focus", "", "run only tests whose name matches this regular expression")
	flag.StringVar(&o.skip, "skip", "", "leave out tests whose name matches this regular expression")
	flag.StringVar(&o.list, "list", "", "run only the tests in lists/NAME.txt")
	flag.IntVar(&o.procs, "procs", 4, "how many tests run at a time")
	flag.IntVar(&o.nodes, "nodes", 1, "how many nodes the cluster has")
	flag.StringVar(&o.server, "server", "", "more arguments for skiff server")
	flag.StringVar(&o.parts, "parts", "bin/conformance", "directory of the programs and packages")
	flag.StringVar(&o.lists, "lists", "tests/conformance/lists", "directory of the lists")
	flag.StringVar(&o.upstream, "upstream", "", "directory of the Kubernetes module")
	flag.StringVar(&o.results, "results", "bin/conformance/results", "directory for the results")
	flag.DurationVar(&o.timeout, "timeout", 4*time.Hour, "give up after this time")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	passed, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
	}
	if err != nil || !passed {
		os.Exit(1)
	}
}

// run gives whether every chosen test passed.
func run(ctx context.Context, o options) (passed bool, err error) {
	if o.nodes < 1 {
		return false, fmt.Errorf("a cluster of %d nodes runs no tests: NODES has to be 1 or more", o.nodes)
	}
	chosen, err := choose(o)
	if err != nil {
		return false, err
	}
	results, err := filepath.Abs(o.results)
	if err != nil {
		return false, err
	}
	if err := errors.Join(os.RemoveAll(results), os.MkdirAll(results, 0o755)); err != nil {
		return false, err
	}
	begin := time.Now()
	suite, err := framework.Open()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, suite.Close()) }()
	c, err := startCluster(ctx, suite, o)
	if c != nil && c.registry != nil {
		defer func() { err = errors.Join(err, c.registry.close()) }()
	}
	if err != nil {
		suite.NoteFailure()
		return false, err
	}
	fmt.Printf("%6.1f s  %d nodes are Ready\n", time.Since(begin).Seconds(), len(c.nodes()))
	r, err := c.test(ctx, o, chosen, results)
	if err != nil || len(r.failed) > 0 {
		suite.NoteFailure()
	}
	if err != nil {
		return false, err
	}
	r.print(os.Stdout, time.Since(begin))
	fmt.Printf("results: %s\n", results)
	return len(r.failed) == 0 && r.passed > 0, nil
}
