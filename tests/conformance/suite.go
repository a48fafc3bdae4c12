package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// reportGrace is how much longer than the tests ginkgo may take: it gathers
// what failed, and writes the report.
const reportGrace = 3 * time.Minute

// test runs the chosen tests inside the host, so that they reach the API, the
// nodes and the pods as a user on that host does. Serial tests run alone after
// the others: ginkgo knows which they are.
func (c *cluster) test(ctx context.Context, o options, chosen selection, results string) (*result, error) {
	log, err := os.Create(filepath.Join(results, "e2e.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	ctx, cancel := context.WithTimeout(ctx, o.timeout+reportGrace)
	defer cancel()
	out := io.MultiWriter(log, &progress{out: os.Stdout, begin: time.Now()})
	err = c.Run(ctx, nshost.Cmd{
		Args:   c.command(o, chosen),
		Env:    []string{"PATH=" + tools + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Dir:    tools,
		Stdout: out, Stderr: out,
	})
	var failed *nshost.ExitError
	if err != nil && !errors.As(err, &failed) {
		return nil, fmt.Errorf("running the tests (%s): %w", log.Name(), err)
	}
	report := filepath.Join(results, "junit.xml")
	raw, err := c.Try(context.WithoutCancel(ctx), nil, "cat", tools+"results/junit_01.xml")
	if err != nil {
		return nil, fmt.Errorf("the tests ended without a report, see %s: %w", log.Name(), err)
	}
	r, err := readReport([]byte(raw), report)
	if err != nil {
		return nil, err
	}
	if unknown := r.unknown(chosen.named); len(unknown) > 0 {
		return nil, fmt.Errorf("lists in %s name tests that do not exist: %s", o.lists, strings.Join(unknown, "; "))
	}
	if failed != nil && len(r.failed) == 0 {
		err = fmt.Errorf("the tests ended with status %d, see %s", failed.Exit.Code, log.Name())
	}
	return r, err
}

func (c *cluster) command(o options, chosen selection) []string {
	args := []string{
		tools + "ginkgo", "-v", "--no-color", "--timeout", o.timeout.String(),
		"--procs", fmt.Sprint(o.procs), "--label-filter", "Conformance",
	}
	for _, f := range chosen.focus {
		args = append(args, "--focus", f)
	}
	for _, s := range chosen.skip {
		args = append(args, "--skip", s)
	}
	return append(args, tools+"e2e.test", "--",
		"--kubeconfig", "/etc/skiff/kubeconfig.yaml", "--kubectl-path", tools+"kubectl",
		"--provider", "skeleton", "--report-dir", tools+"results",
		"--node-os-distro", "debian",
		"--v", "2")
}
