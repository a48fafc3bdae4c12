// Package hostcheck looks at the host before anything is started: what kind of
// host it is, which decides how components are configured, and what it lacks,
// as one list with the command that mends each entry. Prepare then does the
// mending that the program may do itself. The wiring packages import it.
//
// Inspect changes nothing that outlives it. It tries things rather than
// reading version numbers where it can: whether a file opens for writing,
// whether an overlay mounts, whether nft accepts the rules that kube-proxy
// will write.
package hostcheck

import (
	"context"
	"sync"
)

// Options say what the host is to be used for.
type Options struct {
	// DataDir is where state lives; its nearest existing parent is looked at.
	DataDir string
	// Node says that there is a node part, which most requirements come from.
	Node bool
	// CgroupRoot is the cgroup below which pods live; empty: the root.
	CgroupRoot string
	// IPv6 says that the cluster has an IPv6 pod network.
	IPv6 bool
	// FlannelBackend is vxlan, host-gw, wireguard-native or none.
	FlannelBackend string
	// ProxyMode is a service-proxy mode that the user insists on; empty: the
	// best that works. NoProxy says that no service proxy will run.
	ProxyMode string
	NoProxy   bool
	// Overlay says that the embedded containerd uses overlayfs in DataDir.
	Overlay bool
	// ProtectKernelDefaults makes the kubelet refuse kernel settings that
	// differ from what it wants, instead of setting them.
	ProtectKernelDefaults bool
}

// Service-proxy modes.
const (
	ProxyNFTables = "nftables"
	ProxyIPTables = "iptables"
)

// Cgroup drivers, in the names of the kubelet and containerd.
const (
	DriverSystemd  = "systemd"
	DriverCgroupfs = "cgroupfs"
)

// Facts are what components are configured by.
type Facts struct {
	// Kernel is its release, as uname -r says.
	Kernel string
	// Systemd says that systemd runs this host, as process 1.
	Systemd bool
	// Container and UserNamespace say that this host is itself a container.
	Container     bool
	UserNamespace bool

	// CgroupVersion is 1 (the hybrid layout too) or 2.
	CgroupVersion int
	// CgroupDriver is DriverSystemd or DriverCgroupfs.
	CgroupDriver string
	// OwnCgroup is the process' own, of the memory controller with version 1.
	OwnCgroup string

	// ProxyMode is the service-proxy mode that works here; with
	// ProxyNFTables, nothing on the host needs the iptables program.
	ProxyMode string
	// IPv6 says that the kernel has IPv6 and it is not switched off.
	IPv6 bool
	// ConntrackWritable says that kube-proxy may size connection tracking. In
	// a network namespace it may not, and would end itself over it.
	ConntrackWritable bool

	// RestrictOOMScoreAdj says that the process may not lower OOM scores, so
	// that containers cannot be given the ones that the kubelet wants.
	RestrictOOMScoreAdj bool
	// Swap says that swap is in use.
	Swap bool

	// Warnings are worth telling; they keep nothing from starting.
	Warnings []Finding
	// Done is what Prepare changed on the host, in words.
	Done []string

	pending []change
}

// Finding is one thing to tell an administrator.
type Finding struct {
	What string // what is the matter, and what comes of it
	Mend string // the command or setting that mends it; may be empty
}

// Inspect looks at the host. The error is a Problems, everything that keeps
// the program from working and that it cannot mend itself; the facts that
// could be learnt come with it. It takes about 20 ms, most of it waiting.
func Inspect(ctx context.Context, opts Options) (Facts, error) {
	return inspect(ctx, newSystem(), opts)
}

// report is what one probe found.
type report struct {
	problems, warnings []Finding
	pending            []change
}

func (r *report) problem(what, mend string) {
	r.problems = append(r.problems, Finding{What: what, Mend: mend})
}

func (r *report) warn(what, mend string) {
	r.warnings = append(r.warnings, Finding{What: what, Mend: mend})
}

func (r *report) mend(c change) { r.pending = append(r.pending, c) }

// probe looks at one aspect. Probes run at the same time; each writes fields
// of Facts that no other writes or reads.
type probe func(ctx context.Context, s *system, opts Options, f *Facts, r *report)

func inspect(ctx context.Context, s *system, opts Options) (Facts, error) {
	f := Facts{Kernel: s.release}
	if s.euid != 0 {
		return f, Problems{{
			What: "Skiff was not started by root: it mounts, makes network interfaces and starts containers",
			Mend: "sudo skiff …",
		}}
	}
	probes := []probe{probeClock, probeDisk, probeFiles}
	if opts.Node {
		probes = append(probes, probeHost, probeCgroups, probeTools, probeProxy,
			probeConntrack, probeModules, probeForwarding, probeTunables, probeInotify,
			probeKmsg, probeOverlay, probePropagation, probeOOM, probeSwap)
	}
	reports := make([]report, len(probes))
	var wg sync.WaitGroup
	for i, p := range probes {
		wg.Go(func() { p(ctx, s, opts, &f, &reports[i]) })
	}
	wg.Wait()
	var problems Problems
	for _, r := range reports {
		problems = append(problems, r.problems...)
		f.Warnings = append(f.Warnings, r.warnings...)
		f.pending = append(f.pending, r.pending...)
	}
	if len(problems) > 0 {
		return f, problems
	}
	return f, nil
}
