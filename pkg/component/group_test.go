package component

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a component whose behaviour a test chooses.
type fake struct {
	name         string
	readyIn      time.Duration // 0: at once; never: not at all
	stopIn       time.Duration // how long it takes to stop
	failIn       time.Duration // 0: does not fail
	err          error         // what it fails with, nil: returns nil
	stopErr      error
	action       func() // called before ready
	readyTimeout time.Duration
	stopTimeout  time.Duration
	explain      string
}

const never = time.Duration(-1)

func (f fake) Name() string { return f.name }

func (f fake) Run(ctx context.Context, ready func()) error {
	var readyC, failC <-chan time.Time
	if f.readyIn != never {
		readyC = time.After(f.readyIn)
	}
	if f.failIn != 0 {
		failC = time.After(f.failIn)
	}
	for {
		select {
		case <-readyC:
			if f.action != nil {
				f.action()
			}
			ready()
		case <-failC:
			return f.err
		case <-ctx.Done():
			if f.stopIn != 0 {
				<-time.After(f.stopIn)
			}
			if f.stopErr != nil {
				return f.stopErr
			}
			return ctx.Err()
		}
	}
}

func (f fake) ReadyTimeout() time.Duration {
	if f.readyTimeout == 0 {
		return DefaultReadyTimeout
	}
	return f.readyTimeout
}

func (f fake) StopTimeout() time.Duration {
	if f.stopTimeout == 0 {
		return DefaultStopTimeout
	}
	return f.stopTimeout
}

func (f fake) Explain() string { return f.explain }

// recorder notes events as "1s name state", times from the group's start.
type recorder struct {
	mu     sync.Mutex
	start  time.Time
	lines  []string
	events []Event
}

func (r *recorder) observe(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	line := fmt.Sprintf("%s %s %s", e.Time.Sub(r.start), e.Name, e.State)
	if e.Name == "" {
		line = fmt.Sprintf("%s %s", e.Time.Sub(r.start), e.Note)
	}
	r.lines = append(r.lines, line)
}

// run runs a group in a bubble of fake time, ends its ctx after stopAfter, and
// returns what happened.
func run(t *testing.T, stopAfter time.Duration, wire func(g *Group), options ...Option) (*recorder, *Group, error) {
	t.Helper()
	var rec *recorder
	var group *Group
	var err error
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), stopAfter)
		defer cancel()
		rec = &recorder{start: time.Now()}
		group = NewGroup(rec.observe, time.Now().Add(-time.Second), options...)
		wire(group)
		err = group.Run(ctx)
		<-time.After(time.Hour) // what the group gave up on ends by itself
	})
	return rec, group, err
}

func TestRun(t *testing.T) {
	tests := []struct {
		name    string
		stopAt  time.Duration
		wire    func(g *Group)
		options []Option
		want    []string // the full sequence of transitions
		wantErr string
	}{
		{
			name:   "each one starts as soon as its own dependencies are ready and stops after its dependants",
			stopAt: 20 * time.Second,
			wire: func(g *Group) {
				store := g.Add(fake{name: "store", readyIn: time.Second, stopIn: time.Second})
				api := g.Add(fake{name: "api", readyIn: 2 * time.Second, stopIn: time.Second}, store)
				runtime := g.Add(fake{name: "runtime", readyIn: 5 * time.Second, stopIn: 2 * time.Second})
				g.Add(fake{name: "scheduler", readyIn: time.Second}, api)
				g.Add(fake{name: "kubelet", readyIn: time.Second, stopIn: 2 * time.Second}, api, runtime)
			},
			want: []string{
				"0s api pending", "0s scheduler pending", "0s kubelet pending",
				"0s store starting", "0s runtime starting",
				"1s store ready", "1s api starting",
				"3s api ready", "3s scheduler starting",
				"4s scheduler ready",
				"5s runtime ready", "5s kubelet starting",
				"6s kubelet ready",
				"20s kubelet stopping", "20s scheduler stopping", "20s scheduler stopped",
				"22s kubelet stopped", "22s runtime stopping", "22s api stopping",
				"23s api stopped", "23s store stopping",
				"24s runtime stopped", "24s store stopped",
			},
		},
		{
			name:   "a stop during the start cancels what is starting and never starts what waits",
			stopAt: time.Second,
			wire: func(g *Group) {
				store := g.Add(fake{name: "store"})
				api := g.Add(fake{name: "api", readyIn: 5 * time.Second, stopIn: time.Second}, store)
				g.Add(fake{name: "kubelet"}, api)
			},
			want: []string{
				"0s api pending", "0s kubelet pending", "0s store starting", "0s store ready", "0s api starting",
				"1s kubelet stopped", "1s api stopping", "2s api stopped", "2s store stopping", "2s store stopped",
			},
		},
		{
			name:   "a failure stops the rest in order and is what Run returns",
			stopAt: time.Hour,
			wire: func(g *Group) {
				store := g.Add(fake{name: "store", stopIn: time.Second})
				g.Add(fake{name: "api", failIn: 3 * time.Second, err: errors.New("port 6443 is in use")}, store)
				g.Add(fake{name: "scheduler", stopIn: time.Second}, store)
			},
			want: []string{
				"0s api pending", "0s scheduler pending", "0s store starting", "0s store ready",
				"0s api starting", "0s scheduler starting", "0s api ready", "0s scheduler ready",
				"3s api failed", "3s scheduler stopping", "4s scheduler stopped", "4s store stopping", "5s store stopped",
			},
			wantErr: "api failed: port 6443 is in use",
		},
		{
			name:   "an early return without an error is a failure",
			stopAt: time.Hour,
			wire:   func(g *Group) { g.Add(fake{name: "api", failIn: time.Second}) },
			want:   []string{"0s api starting", "0s api ready", "1s api failed"},

			wantErr: "api ended although nothing had asked it to stop",
		},
		{
			name:   "a component that is not ready in time is named with what it blocks and why",
			stopAt: time.Hour,
			wire: func(g *Group) {
				store := g.Add(fake{name: "store"})
				api := g.Add(fake{name: "api", readyIn: never, readyTimeout: 4 * time.Second, explain: "rbac hook"}, store)
				kubelet := g.Add(fake{name: "kubelet"}, api)
				g.Add(fake{name: "network"}, kubelet)
			},
			want: []string{
				"0s api pending", "0s kubelet pending", "0s network pending",
				"0s store starting", "0s store ready", "0s api starting",
				"4s network stopped", "4s kubelet stopped", "4s api stopping", "4s api stopped",
				"4s store stopping", "4s store stopped",
			},
			wantErr: "api is not ready after 4s: rbac hook; waiting for it: kubelet, network",
		},
		{
			name:   "what goes wrong later is joined to the first cause",
			stopAt: time.Hour,
			wire: func(g *Group) {
				store := g.Add(fake{name: "store", stopErr: errors.New("disk full")})
				g.Add(fake{name: "api", failIn: time.Second, err: errors.New("first")}, store)
				g.Add(fake{name: "dns", stopErr: errors.New("second")}, store)
			},
			want: []string{
				"0s api pending", "0s dns pending", "0s store starting", "0s store ready",
				"0s api starting", "0s dns starting", "0s api ready", "0s dns ready",
				"1s api failed", "1s dns stopping", "1s dns stopped", "1s store stopping", "1s store stopped",
			},
			wantErr: "api failed: first\nstopping dns: second\nstopping store: disk full",
		},
		{
			name:   "one that does not stop is given up by name and the rest stops",
			stopAt: time.Second,
			wire: func(g *Group) {
				store := g.Add(fake{name: "store", stopIn: 2 * time.Second})
				g.Add(fake{name: "kubelet", stopIn: 4 * time.Second}, store) // returns before store does
				g.Add(fake{name: "proxy", stopIn: time.Minute, stopTimeout: time.Second}, store)
			},
			want: []string{
				"0s kubelet pending", "0s proxy pending", "0s store starting", "0s store ready",
				"0s kubelet starting", "0s proxy starting", "0s kubelet ready", "0s proxy ready",
				"1s proxy stopping", "1s kubelet stopping",
				"2s proxy failed", "4s kubelet failed", "4s store stopping", "6s store stopped",
			},
			wantErr: "gave up on proxy while stopping (waited 1s)\ngave up on kubelet while stopping (waited 3s)",
		},
		{
			name:    "when the whole stop takes too long, everything left is stopped at once before the end",
			stopAt:  time.Second,
			options: []Option{WithStopTimeout(5 * time.Second)},
			wire: func(g *Group) {
				store := g.Add(fake{name: "store", stopIn: 500 * time.Millisecond})
				api := g.Add(fake{name: "api", stopIn: time.Minute}, store)
				g.Add(fake{name: "kubelet", stopIn: time.Minute}, api)
			},
			want: []string{
				"0s api pending", "0s kubelet pending", "0s store starting", "0s store ready",
				"0s api starting", "0s api ready", "0s kubelet starting", "0s kubelet ready",
				"1s kubelet stopping", "4s kubelet failed", "4s api stopping",
				"5s store stopping", "5.5s store stopped", "6s api failed",
			},
			wantErr: "gave up on kubelet while stopping (waited 3s)\ngave up on api while stopping (waited 2s)",
		},
		{
			name:   "a slow start says what it waits for, less and less often",
			stopAt: 40 * time.Second,
			wire: func(g *Group) {
				store := g.Add(fake{name: "store"})
				api := g.Add(fake{name: "api", readyIn: never, explain: "etcd check"}, store)
				runtime := g.Add(fake{name: "containerd", readyIn: 15 * time.Second})
				g.Add(fake{name: "kubelet"}, runtime, api)
			},
			want: []string{
				"0s api pending", "0s kubelet pending", "0s store starting", "0s containerd starting",
				"0s store ready", "0s api starting",
				"10s waiting for api (starting for 10s: etcd check), containerd (starting for 10s), kubelet (needs containerd, api)",
				"15s containerd ready",
				"30s waiting for api (starting for 30s: etcd check), kubelet (needs api)",
				"40s kubelet stopped", "40s containerd stopping", "40s api stopping",
				"40s containerd stopped", "40s api stopped", "40s store stopping", "40s store stopped",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec, _, err := run(t, tt.stopAt, tt.wire, tt.options...)
			// Siblings do the same thing at the same moment in any order.
			got, want := slices.Clone(rec.lines), slices.Clone(tt.want)
			sortMoments(got)
			sortMoments(want)
			if !slices.Equal(got, want) {
				t.Errorf("transitions:\n%s\nwant:\n%s", strings.Join(rec.lines, "\n"), strings.Join(tt.want, "\n"))
			}
			checkOrder(t, rec)
			if text := errorText(err); text != tt.wantErr {
				t.Errorf("error %q, want %q", text, tt.wantErr)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// sortMoments orders what happened at one time by text.
func sortMoments(lines []string) {
	slices.SortStableFunc(lines, func(a, b string) int {
		at, _, _ := strings.Cut(a, " ")
		bt, _, _ := strings.Cut(b, " ")
		if at != bt {
			return 0
		}
		return strings.Compare(a, b)
	})
}

// checkOrder verifies that every component went through its states in order.
func checkOrder(t *testing.T, rec *recorder) {
	t.Helper()
	order := []State{StatePending, StateStarting, StateReady, StateStopping, StateStopped, StateFailed}
	last := map[string]int{}
	for _, e := range rec.events {
		if e.Name == "" {
			continue
		}
		i := slices.Index(order, e.State)
		if before, ok := last[e.Name]; ok && i <= before {
			t.Errorf("%s went from %s to %s", e.Name, order[before], e.State)
		}
		last[e.Name] = i
	}
}

func TestRunEnding(t *testing.T) {
	t.Run("a panic becomes an error of one line, its stack goes to the status", func(t *testing.T) {
		rec, group, err := run(t, time.Hour, func(g *Group) {
			g.Add(fake{name: "dns", action: func() { panic("no\nzone") }})
		})
		if errorText(err) != "dns failed: panic: no zone" {
			t.Errorf("error %q", errorText(err))
		}
		status := group.Snapshot()[0]
		last := rec.events[len(rec.events)-1]
		for _, text := range []string{status.Detail, last.Detail} {
			if !strings.Contains(text, "TestRunEnding") {
				t.Errorf("the stack does not show where it panicked:\n%s", text)
			}
		}
		if status.State != StateFailed || errorText(status.Err) != "dns failed: panic: no zone" {
			t.Errorf("status %+v", status)
		}
	})
	t.Run("a panic with an error keeps that error", func(t *testing.T) {
		cause := errors.New("cause")
		_, _, err := run(t, time.Hour, func(g *Group) {
			g.Add(fake{name: "dns", action: func() { panic(cause) }})
		})
		if !errors.Is(err, cause) {
			t.Errorf("error %v does not wrap the panic's", err)
		}
	})
	t.Run("a goroutine that ends by Goexit is a failure, not a hang", func(t *testing.T) {
		_, _, err := run(t, time.Hour, func(g *Group) {
			g.Add(fake{name: "dns", action: runtime.Goexit})
		})
		if err == nil || !strings.Contains(err.Error(), "Goexit") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("the failure is the cause of the others' contexts", func(t *testing.T) {
		cause := errors.New("cause")
		var seen error
		_, _, err := run(t, time.Hour, func(g *Group) {
			g.Add(fake{name: "api", failIn: time.Second, err: cause})
			g.Add(Func("dns", func(ctx context.Context, ready func()) error {
				ready()
				<-ctx.Done()
				seen = context.Cause(ctx)
				return seen
			}))
		})
		if !errors.Is(seen, cause) {
			t.Errorf("the cause is %v", seen)
		}
		if errorText(err) != "api failed: cause" {
			t.Errorf("error %q repeats itself", errorText(err))
		}
	})
	t.Run("one that is given up on shows where its goroutines are", func(t *testing.T) {
		rec, _, _ := run(t, time.Second, func(g *Group) {
			g.Add(fake{name: "kubelet", stopIn: 5 * time.Second})
			g.Add(fake{name: "dns"})
		})
		last := rec.events[len(rec.events)-1]
		if last.State != StateFailed || !strings.Contains(last.Detail, "component.fake.Run") {
			t.Errorf("%s: detail %q", last, last.Detail)
		}
		if strings.Contains(last.Detail, "TestMain") {
			t.Errorf("the detail shows other goroutines too:\n%s", last.Detail)
		}
	})
	t.Run("a ctx that ended before Run starts nothing", func(t *testing.T) {
		rec, _, err := run(t, 0, func(g *Group) {
			g.Add(fake{name: "api"})
		})
		if err != nil || !slices.Equal(rec.lines, []string{"0s api stopped"}) {
			t.Errorf("transitions %q, error %v", rec.lines, err)
		}
	})
	t.Run("a component's ctx has the values of Run's but not its end", func(t *testing.T) {
		type key struct{}
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
			g := NewGroup(nil, time.Now())
			store := g.Add(Func("store", func(ctx context.Context, ready func()) error {
				ready()
				if ctx.Value(key{}) != "value" {
					t.Error("the value is missing")
				}
				<-ctx.Done()
				return nil
			}))
			g.Add(fake{name: "api", stopIn: time.Second}, store)
			go func() {
				<-g.Ready()
				cancel()
			}()
			if err := g.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	})
}

func TestGroup(t *testing.T) {
	t.Run("Ready is closed when all are ready and Snapshot says when each was", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			g := NewGroup(nil, time.Now().Add(-300*time.Millisecond))
			store := g.Add(fake{name: "store", readyIn: 200 * time.Millisecond})
			g.Add(fake{name: "api", readyIn: time.Second}, store)
			done := make(chan error, 1)
			go func() { done <- g.Run(ctx) }()

			synctest.Wait()
			api := g.Snapshot()[1]
			if api.State != StatePending || !slices.Equal(api.WaitingOn, []string{"store"}) {
				t.Errorf("api is %+v, want it to wait for store", api)
			}
			start := time.Now()
			<-g.Ready()
			if took := time.Since(start); took != 1200*time.Millisecond {
				t.Errorf("the group was ready after %s", took)
			}
			api = g.Snapshot()[1]
			if api.State != StateReady || api.StartedAfter != 500*time.Millisecond || api.ReadyAfter != 1500*time.Millisecond {
				t.Errorf("api is %+v, want it started 500ms and ready 1.5s after the process", api)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if n := len(g.Events()); n != 9 {
				t.Errorf("%d events are kept, want 9: %v", n, g.Events())
			}
		})
	})
	t.Run("depending on a component that is switched off is depending on nothing", func(t *testing.T) {
		rec, _, err := run(t, time.Second, func(g *Group) {
			g.Add(fake{name: "kubelet"}, Handle{})
		})
		if err != nil || rec.lines[0] != "0s kubelet starting" {
			t.Errorf("transitions %q, error %v", rec.lines, err)
		}
	})
	t.Run("two components of one name are refused", func(t *testing.T) {
		_, _, err := run(t, time.Second, func(g *Group) {
			g.Add(fake{name: "dns"})
			g.Add(fake{name: "dns"})
		})
		if errorText(err) != "two components are called dns" {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a handle of another group is a mistake that shows at once", func(t *testing.T) {
		defer func() {
			if recover() == nil {
				t.Error("it was accepted")
			}
		}()
		h := NewGroup(nil, time.Now()).Add(fake{name: "store"})
		NewGroup(nil, time.Now()).Add(fake{name: "api"}, h)
	})
	t.Run("a group that is ready sleeps", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := NewGroup(nil, time.Now())
			g.Add(fake{name: "api"})
			l := &loop{Group: g, timer: time.NewTimer(time.Hour), noticeAt: time.Now()}
			g.nodes[0].state = StateReady
			l.setTimer()
			select {
			case <-l.timer.C:
				t.Error("the loop was woken")
			case <-time.After(1000 * time.Hour):
			}
		})
	})
	t.Run("old events make room for new ones in order", func(t *testing.T) {
		var h history
		for i := range eventsKept + 10 {
			h.add(Event{Took: time.Duration(i)})
		}
		list := h.list()
		if len(list) != eventsKept || list[0].Took != 10 || list[eventsKept-1].Took != eventsKept+9 {
			t.Errorf("%d events from %d to %d", len(list), list[0].Took, list[len(list)-1].Took)
		}
	})
}

func TestEventString(t *testing.T) {
	tests := []struct {
		name  string
		event Event
		want  string
	}{
		{"ready says how long it took", Event{Name: "api", State: StateReady, Took: 1234 * time.Millisecond}, "api is ready after 1.23s"},
		{"pending says for what", Event{Name: "kubelet", State: StatePending, WaitingOn: []string{"api", "containerd"}}, "kubelet waits for api, containerd"},
		{"a failure is its error", Event{Name: "api", State: StateFailed, Err: errors.New("api failed: x")}, "api failed: x"},
		{"a bad stop says so", Event{Name: "api", State: StateStopped, Err: errors.New("x")}, "api stopped with an error: x"},
		{"a notice is its text", Event{Note: "waiting for api"}, "waiting for api"},
		{"the rest is the state", Event{Name: "api", State: StateStopping}, "api is stopping"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.event.String(); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
