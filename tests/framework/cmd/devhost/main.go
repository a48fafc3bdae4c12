// Command devhost keeps a host of namespaces on this machine for people to
// work on: `make up` runs a server in one. It is started by the Makefile and
// by hand, and imports nshost only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

const usage = `devhost keeps a host made of namespaces on this machine. It needs root.

  devhost up [BINARY]         make the host; BINARY becomes its /usr/local/bin/skiff
  devhost run LOG COMMAND...  start a command that goes on in the background
  devhost exec COMMAND...     run a command inside
  devhost ip                  print the address at which the machine reaches the host
  devhost path FILE           print where the machine finds a file of the host
  devhost status              print whether the host runs; the exit status says it too
  devhost down                end everything in the host and remove all traces

The host is called skiff-dev, or skiff-$DEVHOST_NAME (at most 8 of a-z0-9). It has
a network of its own, or that of the host named by $DEVHOST_NETWORK. Its files are
below $SKIFF_TEST_DIR, default ` + nshost.DefaultBase + `. The directory that
devhost is started from is visible inside at the same path.
`

func main() {
	nshost.RunInit()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	flag.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		fmt.Fprint(os.Stdout, usage)
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := dispatch(ctx, args[0], args[1:])
	var failed *nshost.ExitError
	if errors.As(err, &failed) {
		return failed.Exit.Code
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "devhost:", err)
		return 1
	}
	return 0
}

func dispatch(ctx context.Context, verb string, args []string) error {
	if os.Geteuid() != 0 {
		return errors.New("namespaces can be made by root only: use sudo")
	}
	d := devhost{base: nshost.Base(), name: os.Getenv("DEVHOST_NAME")}
	if d.name == "" {
		d.name = "dev"
	}
	if verb == "up" {
		return d.up(ctx, args)
	}
	if verb == "down" {
		return d.down()
	}
	h, err := nshost.Load(d.base, d.name)
	if err != nil || !h.Running() {
		return fmt.Errorf("host %s does not run: start it with devhost up", d.name)
	}
	switch verb {
	case "run":
		return background(ctx, h, args)
	case "exec":
		return foreground(ctx, h, args)
	case "ip":
		fmt.Println(h.Address())
	case "path":
		if len(args) != 1 {
			return errors.New("path needs one file")
		}
		fmt.Println(h.Path(args[0]))
	case "status":
		fmt.Printf("host %s runs at %s, its init is process %d, its files are in %s\n",
			h.ID(), h.Address(), h.PID(), h.Directory())
	default:
		return fmt.Errorf("unknown command %q, see devhost help", verb)
	}
	return nil
}

type devhost struct{ base, name string }

func (d devhost) bridge() string { return nshost.LinkName(d.name) + "-br" }

func (d devhost) up(ctx context.Context, args []string) (err error) {
	if h, err := nshost.Load(d.base, d.name); err == nil {
		if h.Running() {
			return nil
		}
		if err := d.down(); err != nil {
			return err
		}
	}
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	c := nshost.Config{ID: d.name, Hostname: "skiff-" + d.name, Base: d.base, Permanent: true}
	c.Binds = append(c.Binds, nshost.Bind{Source: here, Target: here})
	if len(args) > 0 {
		binary, err := filepath.Abs(args[0])
		if err != nil {
			return err
		}
		c.Binds = append(c.Binds, nshost.Bind{Source: binary, Target: "/usr/local/bin/skiff", ReadOnly: true})
	}
	if other := os.Getenv("DEVHOST_NETWORK"); other != "" && other != d.name {
		if c.Network, err = nshost.NetworkOf(d.base, other); err != nil {
			return err
		}
		_, err = nshost.New(ctx, c)
		return err
	}
	if c.Network, err = nshost.NewNetwork(d.bridge()); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Network.Close())
		}
	}()
	if c.Names, err = nshost.NameSockets(c.Network.Gateway()); err != nil {
		return err
	}
	_, err = nshost.New(ctx, c)
	return err
}

// down also cleans up after a host whose init has died.
func (d devhost) down() error {
	h, err := nshost.Load(d.base, d.name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = errors.Join(h.Close(), nshost.RemoveNetwork(d.bridge()))
	_ = os.Remove(d.base) // stays while another host lives in it
	return err
}

func background(ctx context.Context, h *nshost.Host, args []string) error {
	if len(args) < 2 {
		return errors.New("run needs a log file and a command")
	}
	log, err := os.OpenFile(args[0], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p, err := h.Start(ctx, nshost.Cmd{Args: args[1:], Stdout: log, Stderr: log, Detach: true})
	if err != nil {
		return err
	}
	fmt.Println(p.PID)
	return nil
}

// foreground passes its own streams on, so that a terminal stays one.
func foreground(ctx context.Context, h *nshost.Host, args []string) error {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return errors.New("exec needs a command")
	}
	interrupts := make(chan os.Signal, 4)
	signal.Notify(interrupts, syscall.SIGINT, syscall.SIGQUIT)
	p, err := h.Start(ctx, nshost.Cmd{Args: args, Env: terminalEnv(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	if err != nil {
		return err
	}
	for {
		select {
		case s := <-interrupts:
			if number, ok := s.(syscall.Signal); ok {
				_ = p.Signal(number)
			}
		case <-p.Done():
			exit, err := p.Wait()
			if err == nil && exit.Code != 0 {
				err = &nshost.ExitError{Args: args, Exit: exit}
			}
			return err
		}
	}
}

func terminalEnv() []string {
	var env []string
	if term := os.Getenv("TERM"); term != "" {
		env = append(env, "TERM="+term)
	}
	if size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
		env = append(env, fmt.Sprintf("COLUMNS=%d", size.Col), fmt.Sprintf("LINES=%d", size.Row))
	}
	return append(env, skiffVariables(os.Environ())...)
}

// skiffVariables picks the variables of this shell that are meant for Skiff.
func skiffVariables(env []string) []string {
	var kept []string
	for _, e := range env {
		if strings.HasPrefix(e, "SKIFF_") && !strings.HasPrefix(e, "SKIFF_TEST") {
			kept = append(kept, e)
		}
	}
	return kept
}
