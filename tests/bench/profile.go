package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// profileSkiff runs Skiff alone with its profiles served, and writes into a
// directory what its start, the idle server and the server under API load look
// like inside. Serving them costs nothing until they are asked for.
func profileSkiff(ctx context.Context, suite *framework.Suite, o options, archives []string) (err error) {
	if err := os.MkdirAll(o.profile, 0o755); err != nil {
		return err
	}
	s, err := newSkiff(ctx, suite, archives)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	s.args = []string{"--enable-pprof"}
	if err := profileAll(ctx, s, o); err != nil {
		return stated(s, err)
	}
	fmt.Printf("The profiles are in %s: go tool pprof -http=: %[1]s/idle-cpu.pb.gz; go tool trace %[1]s/idle-trace.out\n", o.profile)
	return nil
}

func profileAll(ctx context.Context, s *skiff, o options) error {
	if err := coldStart(ctx, s, o, func(value) {}); err != nil {
		return err
	}
	if err := profileStart(ctx, s, o.profile); err != nil {
		return err
	}
	config, err := s.Config(ctx)
	if err != nil {
		return err
	}
	client, err := newClient(config, jsonObjects)
	if err != nil {
		return err
	}
	if err := pass(ctx, s, o.settle); err != nil {
		return err
	}
	if err := collect(ctx, client, o.profile, "idle", o.window); err != nil {
		return err
	}
	return underLoad(ctx, s, config, func(ctx context.Context) error {
		return collect(ctx, client, o.profile, "loaded", o.window)
	})
}

// profileStart writes when each component was started and ready, the log, and
// the runtime's lines about the time and memory that each package's
// initialisation takes. Those are the same for every command of the binary; the
// server is not asked, because its children would inherit the setting and write
// such lines where others read their answers.
func profileStart(ctx context.Context, s *skiff, dir string) error {
	// The exit status says whether everything is ready, which is not asked.
	out, err := s.host.Try(ctx, nil, "skiff", "status", "-o", "json")
	if out == "" {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "start-components.json"), []byte(out), 0o644); err != nil {
		return err
	}
	log, err := os.ReadFile(s.log)
	if err != nil {
		return err
	}
	inits, err := s.host.Try(ctx, nil, "sh", "-c", "GODEBUG=inittrace=1 skiff version 2>&1")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "start.log"), log, 0o644),
		os.WriteFile(filepath.Join(dir, "start-init.txt"), []byte(inits), 0o644))
}

// collect asks for each kind of profile in turn.
func collect(ctx context.Context, client kubernetes.Interface, dir, name string, window time.Duration) error {
	seconds := strconv.Itoa(max(1, int(window.Seconds())))
	for _, p := range []struct{ path, seconds, file string }{
		{"profile", seconds, "cpu.pb.gz"},
		{"trace", strconv.Itoa(min(5, max(1, int(window.Seconds())))), "trace.out"}, // some MB a second under load
		{"heap", "", "heap.pb.gz"},
		{"allocs", "", "allocs.pb.gz"},
		{"goroutine", "", "goroutine.pb.gz"},
	} {
		request := client.CoreV1().RESTClient().Get().AbsPath("/debug/pprof/" + p.path)
		if p.seconds != "" {
			request = request.Param("seconds", p.seconds)
		}
		data, err := request.DoRaw(ctx)
		if err != nil {
			return fmt.Errorf("asking for the %s of the %s server: %w", p.path, name, err)
		}
		file := filepath.Join(dir, name+"-"+p.file)
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return err
		}
		fmt.Printf("  %s, %d KiB\n", file, len(data)/1024)
	}
	return nil
}

// underLoad calls do while rounds of requests, 16 at a time, go on.
func underLoad(ctx context.Context, s system, config *rest.Config, do func(context.Context) error) error {
	client, err := newClient(config, jsonObjects)
	if err != nil {
		return err
	}
	r := round{s: s, maps: client.CoreV1().ConfigMaps(metav1.NamespaceDefault), at: 16, kind: "JSON", record: func(value) {}}
	over := make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		for {
			if err := r.run(ctx); err != nil {
				failed <- err
				return
			}
			select {
			case <-over:
				failed <- nil
				return
			default:
			}
		}
	}()
	err = do(ctx)
	close(over)
	return errors.Join(err, <-failed)
}
