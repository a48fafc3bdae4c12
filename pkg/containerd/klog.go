package containerd

import (
	"flag"

	"k8s.io/klog/v2"
)

// klogFlags remembers klog's settings. The CRI plugin sets them for the whole
// process when it is initialised.
type klogFlags map[string]string

// touchedByCRI are the klog flags that containerd's CRI plugin sets.
var touchedByCRI = [...]string{"legacy_stderr_threshold_behavior", "stderrthreshold", "logtostderr", "v"}

func klogFlagSet() *flag.FlagSet {
	set := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(set)
	return set
}

func saveKlog() klogFlags {
	saved, set := klogFlags{}, klogFlagSet()
	for _, name := range touchedByCRI {
		if f := set.Lookup(name); f != nil {
			saved[name] = f.Value.String()
		}
	}
	return saved
}

func (k klogFlags) restore() {
	set := klogFlagSet()
	for name, value := range k {
		// The value came from the same flag, so it is a valid one.
		_ = set.Set(name, value)
	}
}
