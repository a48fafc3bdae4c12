package logging

import (
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
)

// sources maps packages, by the beginning of a function's full name, to the
// component that they belong to. All Kubernetes components log through one
// klog, so where a call comes from is the only thing that tells them apart.
// The first match counts.
func sources() []source {
	return []source{
		{"k8s.io/kubernetes/pkg/kubelet", "kubelet"},
		{"k8s.io/kubernetes/cmd/kubelet", "kubelet"},
		{"k8s.io/kubernetes/pkg/scheduler", "scheduler"},
		{"k8s.io/kubernetes/cmd/kube-scheduler", "scheduler"},
		{"k8s.io/kubernetes/pkg/controlplane", "apiserver"},
		{"k8s.io/kubernetes/cmd/kube-apiserver", "apiserver"},
		{"k8s.io/kubernetes/pkg/registry", "apiserver"},
		{"k8s.io/kubernetes/plugin/pkg", "apiserver"},
		{"k8s.io/kube-aggregator", "apiserver"},
		{"k8s.io/apiextensions-apiserver", "apiserver"},
		{"k8s.io/kubernetes/pkg/controller", "controller-manager"},
		{"k8s.io/kubernetes/cmd/kube-controller-manager", "controller-manager"},
		{"k8s.io/kubernetes/pkg/proxy", "kube-proxy"},
		{"k8s.io/kubernetes/cmd/kube-proxy", "kube-proxy"},
		{"github.com/containerd/containerd", "containerd"},
		{"github.com/k3s-io/kine", "kine"},
		{"go.etcd.io/etcd/server", "etcd"},
		{"github.com/coredns", "dns"},
		{"github.com/flannel-io", "network"},
		{"github.com/skiff-k8s/skiff/pkg/kube/controllermanager", "controller-manager"},
		{"github.com/skiff-k8s/skiff/pkg/kube/apiserver", "apiserver"},
		{"github.com/skiff-k8s/skiff/pkg/kube/scheduler", "scheduler"},
		{"github.com/skiff-k8s/skiff/pkg/kube/kubelet", "kubelet"},
		{"github.com/skiff-k8s/skiff/pkg/kube/proxy", "kube-proxy"},
		{"github.com/skiff-k8s/skiff/pkg/datastore/sqlite", "sqlite"},
		{"github.com/skiff-k8s/skiff/pkg/datastore/external", "datastore"},
		{"github.com/skiff-k8s/skiff/pkg/containerd", "containerd"},
		{"github.com/skiff-k8s/skiff/pkg/network", "network"},
		{"github.com/skiff-k8s/skiff/pkg/dns", "dns"},
	}
}

// sharedSources are libraries that several components run. They name a line
// only if nothing else on the stack does.
func sharedSources() []source {
	return []source{
		{"k8s.io/apiserver", "apiserver"},
		{"k8s.io/client-go", "client-go"},
		{"k8s.io/kubernetes", "kubernetes"},
		{"google.golang.org/grpc", "grpc"},
		{"net/http.", "http"},
	}
}

type source struct{ prefix, component string }

// call is what one place in the program says about a log line.
type call struct {
	component string
	shared    string
	severity  logrus.Level // of klog's Warning, Fatal and Exit functions, else 0
	exits     bool         // it ends the process after an error
}

// exits are functions of Kubernetes that log an error and then end the process
// by os.Exit or klog.FlushAndExit, where no line can follow.
func exits() []string {
	return []string{
		"k8s.io/kubernetes/pkg/controller/namespace/deletion.(*namespacedResourcesDeleter).initOpCache",
		"k8s.io/kubernetes/pkg/kubelet.(*Kubelet).Run",
		"k8s.io/kubernetes/pkg/kubelet.(*Kubelet).initializeRuntimeDependentModules",
		"k8s.io/kubernetes/pkg/kubelet/certificate.addCertRotation",
		"k8s.io/kubernetes/pkg/kubelet/kuberuntime.NewKubeGenericRuntimeManager",
		"k8s.io/kubernetes/pkg/kubelet/server.ListenAndServe",
		"k8s.io/kubernetes/pkg/scheduler/backend/cache.(*cacheImpl).",
	}
}

// origins finds out where a log line comes from. It remembers every program
// counter that it has seen, so that a line costs no allocation: there are a
// few thousand places that log.
type origins struct {
	mu    sync.RWMutex
	calls map[uintptr]call
}

func newOrigins() *origins { return &origins{calls: map[uintptr]call{}} }

// depth is how far up the stack a component is looked for: past the logging
// libraries, an informer, and the wait loop that it runs in.
const depth = 24

// find walks up the stack. The component is "" when nothing on it is known. The
// severity is 0 unless the line was logged with klog.Warning, Fatal, Exit or one
// of their kin, all of which tell a logr.LogSink that they are information.
func (o *origins) find() (from call) {
	var pcs [depth]uintptr
	n := runtime.Callers(2, pcs[:])
	for _, pc := range pcs[:n] {
		c := o.call(pc)
		from.severity = max(from.severity, c.severity)
		if c.component != "" {
			from.component, from.exits = c.component, c.exits
			return from
		}
		if from.shared == "" {
			from.shared = c.shared
		}
	}
	from.component = from.shared
	return from
}

func (o *origins) call(pc uintptr) call {
	o.mu.RLock()
	c, ok := o.calls[pc]
	o.mu.RUnlock()
	if ok {
		return c
	}
	frame, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	c = classify(frame.Function)
	o.mu.Lock()
	o.calls[pc] = c
	o.mu.Unlock()
	return c
}

func classify(function string) call {
	return call{
		component: match(sources(), function),
		shared:    match(sharedSources(), function),
		severity:  severity(function),
		exits:     slices.ContainsFunc(exits(), func(prefix string) bool { return strings.HasPrefix(function, prefix) }),
	}
}

func severity(function string) logrus.Level {
	name, ok := strings.CutPrefix(function, "k8s.io/klog/v2.")
	switch {
	case !ok:
	case strings.HasPrefix(name, "Warning"):
		return logrus.WarnLevel
	case strings.HasPrefix(name, "Fatal"), strings.HasPrefix(name, "Exit"):
		return logrus.FatalLevel
	}
	return 0
}

func match(list []source, function string) string {
	for _, s := range list {
		if strings.HasPrefix(function, s.prefix) {
			return s.component
		}
	}
	return ""
}
