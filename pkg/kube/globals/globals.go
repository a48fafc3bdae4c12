// Package globals is the only place that touches the process-wide state of
// Kubernetes' libraries: klog, the feature gates, the default warning handler,
// the re-application of log settings and the registry of metrics. Apply is called once, by the wiring,
// before any Kubernetes component is built.
package globals

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/rest"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/volume/attachdetach"

	"github.com/skiff-k8s/skiff/pkg/kube/flags"
	_ "github.com/skiff-k8s/skiff/pkg/kube/globals/queues" // metrics of work queues that do not tick
)

// Settings is what the process' Kubernetes components share.
type Settings struct {
	// Verbosity is klog's -v.
	Verbosity int
	// VModule is klog's --vmodule, empty for none.
	VModule string
	// Sink receives all of klog's lines.
	Sink logr.LogSink
	// FeatureGates are set for every component of the process.
	FeatureGates map[string]bool
}

// attachInterval is the time between looks for volumes to attach or detach,
// which take seconds to be attached where there are any.
const attachInterval = 500 * time.Millisecond

// applied guards against a second Apply; it is the only state of this package.
var applied atomic.Bool

// Apply sets the process-wide state. A second call is an error: klog and the
// feature gates must not change under running components.
func Apply(s Settings) error {
	if !applied.CompareAndSwap(false, true) {
		return errors.New("Kubernetes' process-wide settings were already applied")
	}
	// Components apply the logging configuration that they were given again;
	// the one that is in force stays.
	logsapi.ReapplyHandling = logsapi.ReapplyHandlingIgnoreUnchanged
	if err := applyKlog(s); err != nil {
		return err
	}
	// In-process clients would log warnings that the API server sends to them.
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(s.FeatureGates); err != nil {
		return fmt.Errorf("setting feature gates: %w", err)
	}
	if err := compatibility.DefaultComponentGlobalsRegistry.Set(); err != nil {
		return fmt.Errorf("setting versions and feature gates: %w", err)
	}
	// Upstream's attach/detach controller looks ten times a second for volumes
	// to attach, of which most clusters have none.
	attachdetach.DefaultTimerConfig.ReconcilerLoopPeriod = attachInterval
	return nil
}

// Expose adds metrics to those that the API server serves at /metrics. They are
// part of the process' state: a second one of the same name is an error.
func Expose(metrics ...prometheus.Collector) error {
	for _, m := range metrics {
		if err := legacyregistry.Registerer().Register(m); err != nil {
			return fmt.Errorf("adding a metric: %w", err)
		}
	}
	return nil
}

func applyKlog(s Settings) error {
	fs := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(fs)
	if err := fs.Set("v", strconv.Itoa(s.Verbosity)); err != nil {
		return fmt.Errorf("setting -v: %w", err)
	}
	if s.VModule != "" {
		if err := fs.Set("vmodule", s.VModule); err != nil {
			return fmt.Errorf("setting --vmodule: %w", err)
		}
	}
	if s.Sink != nil {
		// Contextual logging would route around the verbosity set above, so
		// klog itself calls the sink.
		klog.SetLoggerWithOptions(logr.New(s.Sink), klog.ContextualLogger(false))
	}
	return nil
}

// WithoutFeatureGates drops feature-gates from a component's arguments: gates
// are process-wide and were set here.
func WithoutFeatureGates(args []string) []string {
	return slices.DeleteFunc(slices.Clone(args), func(a string) bool { return flags.Name(a) == "feature-gates" })
}
