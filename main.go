// Skiff is Kubernetes as one process: server, agent, kubectl and ctr in one file.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/skiff-k8s/skiff/cmd"
	"github.com/skiff-k8s/skiff/cmd/ctr"
	"github.com/skiff-k8s/skiff/cmd/kubectl"
	"github.com/skiff-k8s/skiff/pkg/agent"
	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/daemon"
	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/notify"
	"github.com/skiff-k8s/skiff/pkg/procstart"
	"github.com/skiff-k8s/skiff/pkg/proctitle"
	"github.com/skiff-k8s/skiff/pkg/server"
)

func main() {
	args, environ := os.Args, os.Environ()
	if !cmd.Tool(args) {
		args = proctitle.Hide(os.Args, append(config.SecretFlags(), cmd.SecretFlags()...))
	}
	for _, name := range config.SecretVariables() {
		_ = os.Unsetenv(name) // programs that we start have no use for it
	}
	// Whoever is first decides: the command, or a second signal.
	exit := make(chan int, 2)
	go func() {
		exit <- cmd.Run(context.Background(), cmd.Process{
			Args: args, Environ: environ, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Euid: os.Geteuid(),
		}, cmd.Programs{
			Server: func(ctx context.Context, cfg config.Server) error {
				return runDaemon(ctx, cfg.Layout, exit, func(ctx context.Context, proc daemon.Process) error { return server.Run(ctx, cfg, proc) })
			},
			Agent: func(ctx context.Context, cfg config.Agent) error {
				return runDaemon(ctx, cfg.Layout, exit, func(ctx context.Context, proc daemon.Process) error { return agent.Run(ctx, cfg, proc) })
			},
			Snapshots: server.Snapshots,
			Restore:   server.Restore,
			Reset:     server.Reset,
			Kubectl:   kubectl.Main,
			Ctr:       ctr.New,
		})
	}()
	os.Exit(<-exit)
}

// runDaemon is what servers and agents do to their process. kubectl and ctr have
// the user's umask and their own ways with signals.
func runDaemon(ctx context.Context, l layout.Layout, exit chan<- int, run func(context.Context, daemon.Process) error) error {
	// Not stricter: pods of other users read what the kubelet writes for
	// them. Secrets are written with a mode of their own.
	syscall.Umask(0o022)
	// containerd finds its shims, the kubelet mount and kube-proxy nft, by PATH.
	path := l.Helpers() + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin:/usr/bin:/bin"
	if err := os.Setenv("PATH", path); err != nil {
		return fmt.Errorf("setting PATH: %w", err)
	}
	service, err := notify.FromEnv(os.LookupEnv, os.Getpid())
	if err != nil {
		return err
	}
	// Else the kubelet would answer the watchdog, and children speak for us.
	for _, name := range notify.Variables() {
		_ = os.Unsetenv(name) // fails for malformed names only
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		cancel(fmt.Errorf("got signal %v", <-signals))
		fmt.Fprintf(os.Stderr, "skiff: got signal %v again, ending at once\n", <-signals)
		exit <- 1
	}()
	err = run(ctx, daemon.Process{Stderr: os.Stderr, Notify: service, Start: procstart.Time()})
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))) {
		return nil // it says that it was asked to stop
	}
	return err
}
