// Command bench measures Skiff and a stock Kubernetes of the same versions side
// by side, each on a host made of namespaces, and writes a table of medians.
// scripts/bench builds what it needs and starts it; docs/benchmarks.md says
// what each line means. Each measurement is one function in a file of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// options are what the user may choose.
type options struct {
	repetitions int
	idle        time.Duration
	settle      time.Duration // between the first Deployment and the idle window
	concurrency []int
	pods        []int
	services    []int
	agents      []int
	only        []string // systems
	steps       []string // names
	parts       string   // directory of what scripts/bench has built
	payload     string   // directory of runc, shim, CNI plugins, pause
	results     string   // directory for the JSON and Markdown files
	commit      string
	add         bool // to the results that are there

	profile string        // directory for profiles instead of measuring; or ""
	window  time.Duration // what a CPU profile covers
}

func main() {
	nshost.RunInit()
	o, err := parse(os.Args[1:])
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		err = run(ctx, o)
	}
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	short := f.Bool("short", false, "the main lines, once: other defaults for -systems, -repetitions, -idle, -settle, -concurrency and -steps")
	f.IntVar(&o.repetitions, "repetitions", 3, "how often each system is measured; 1 with -short")
	f.DurationVar(&o.idle, "idle", 3*time.Minute, "how long the idle system is watched; 30s with -short")
	f.DurationVar(&o.settle, "settle", 30*time.Second, "how long it is left alone before; 5s with -short")
	concurrency := f.String("concurrency", "1,16,64", "how many requests are under way at a time; 16 with -short")
	pods := f.String("pods", "1,10,100", "how many pods are created at once")
	services := f.String("services", "10,1000,5000", "with how many Services changes are measured")
	agents := f.String("agents", "1,10,50,200", "with how many simulated agents the system is measured")
	only := f.String("systems", "skiff,skiff-etcd,stock", "what is measured; skiff,stock with -short")
	stepList := f.String("steps", strings.Join(stepNames(false), ","), "what is measured of each; "+strings.Join(stepNames(true), ",")+" with -short")
	f.StringVar(&o.parts, "parts", "bin/bench", "directory of the stock programs")
	f.StringVar(&o.payload, "payload", "bin/payload", "directory of runc, shim, CNI plugins and pause")
	f.StringVar(&o.results, "results", "bin/bench/results", "directory for the results")
	f.BoolVar(&o.add, "add", false, "add to the results that are there, of steps that an earlier run has left out")
	f.StringVar(&o.commit, "commit", "unknown", "what is measured, for the table's head")
	f.StringVar(&o.profile, "profile", "", "write profiles of Skiff into this directory instead of measuring")
	f.DurationVar(&o.window, "window", 20*time.Second, "what a CPU profile covers, at most 50s")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if *short {
		if err := shorten(f, args); err != nil {
			return o, err
		}
	}
	o.only, o.steps = words(*only), words(*stepList)
	err := checkSteps(o.steps)
	for _, list := range []struct {
		to   *[]int
		text string
	}{{&o.concurrency, *concurrency}, {&o.pods, *pods}, {&o.services, *services}, {&o.agents, *agents}} {
		all, wrong := numbers(list.text)
		*list.to, err = all, errors.Join(err, wrong)
	}
	return o, errors.Join(err, checkAgents(o.agents))
}

// shorten sets what is short about the short form, but for what was asked for.
func shorten(f *flag.FlagSet, args []string) error {
	for name, value := range map[string]string{
		"repetitions": "1", "idle": "30s", "settle": "5s", "concurrency": "16", "systems": "skiff,stock", "steps": strings.Join(stepNames(true), ","),
	} {
		if err := f.Set(name, value); err != nil {
			return err
		}
	}
	return f.Parse(args)
}

// words are the parts of a list with commas.
func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}

func numbers(list string) ([]int, error) {
	var all []int
	for _, word := range words(list) {
		var n int
		if _, err := fmt.Sscan(word, &n); err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a number above 0", word)
		}
		all = append(all, n)
	}
	return all, nil
}

// run measures the systems in turn, so that what else happens on the machine
// meets all of them.
func run(ctx context.Context, o options) (err error) {
	suite, err := framework.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, suite.Close()) }()
	archives, err := writeImages(ctx)
	if err != nil {
		return err
	}
	defer os.RemoveAll(filepath.Dir(archives[0]))
	if o.profile != "" {
		return profileSkiff(ctx, suite, o, archives[:1])
	}
	r, err := openResults(o)
	if err != nil {
		return err
	}
	for repetition := range o.repetitions {
		names := slices.Clone(o.only)
		if repetition%2 == 1 {
			slices.Reverse(names)
		}
		for _, name := range names {
			fmt.Printf("== %s, repetition %d of %d\n", name, repetition+1, o.repetitions)
			if err := once(ctx, suite, o, name, repetition, archives, r); err != nil {
				return err
			}
			if err := r.write(); err != nil {
				return err
			}
		}
	}
	fmt.Printf("\n%s\nAll of it is in %s.\n\n%s\n", r.mainTable(), filepath.Join(o.results, "table.md"), r.summary())
	return nil
}

// once measures one system on a fresh host.
func once(ctx context.Context, suite *framework.Suite, o options, name string, repetition int, archives []string, r *results) (err error) {
	var s system
	switch name {
	case onSQLite:
		s, err = newSkiff(ctx, suite, archives[:1])
	case onEtcd:
		s, err = newSkiffOnEtcd(ctx, suite, archives[:1])
	case "stock":
		s, err = newStock(ctx, suite, o, archives)
	default:
		err = fmt.Errorf("there is no system called %q", name)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	before, err := lookAtLoad(s.Host())
	if err != nil {
		return err
	}
	look := newSampler(s.Host())
	noted := true
	record := func(v value) {
		if noted {
			r.add(s.Name(), v)
		}
		fmt.Printf("  %-60s %10.2f %s\n", v.Title, v.Number, v.Unit)
	}
	for _, step := range o.chosen(repetition) {
		noted = !o.add || slices.Contains(o.steps, step.name) // a start that is only needed was measured before
		if err := runStep(ctx, step, s, o, look, record); err != nil {
			return err
		}
	}
	if look.err != nil {
		return fmt.Errorf("looking at the processes: %w", look.err)
	}
	r.seen = append(r.seen, measured{s.Name(), repetition, look.phases})
	after, err := lookAtLoad(s.Host())
	if err != nil {
		return err
	}
	r.Others = append(r.Others, after.othersSince(before))
	fmt.Printf("  %-60s %10.2f %s\n", "meanwhile used by others on this machine", after.othersSince(before), "% of a core")
	return nil
}
