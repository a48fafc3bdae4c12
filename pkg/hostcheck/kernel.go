package hostcheck

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const bridgeSysctls = "/proc/sys/net/bridge/"

func probeModules(_ context.Context, s *system, opts Options, _ *Facts, r *report) {
	// Without it, a pod that calls a Service and is answered by a pod on the
	// same bridge gets the answer from an address that it never called.
	if !s.exists(bridgeSysctls) {
		c := s.loadModule("br_netfilter", bridgeSysctls)
		c.fatal = opts.FlannelBackend != "none" // other networks may do without
		r.mend(c)
	}
	switch opts.FlannelBackend {
	case "vxlan":
		r.linkKind(s, "vxlan", "vxlan")
	case "wireguard-native":
		r.linkKind(s, "wireguard", "wireguard")
	}
}

// linkKind plans to try a kind of interface unless its module is seen.
func (r *report) linkKind(s *system, kind, module string) {
	if s.exists("/sys/module/"+module) || s.builtin(module) {
		return
	}
	mend := "modprobe " + module
	if kind == "vxlan" {
		mend += " (Ubuntu: apt-get install linux-modules-extra-" + s.release + "), or choose --flannel-backend host-gw"
	}
	r.mend(change{
		what:  "load the kernel module " + module,
		mend:  mend,
		fatal: true,
		do: func(ctx context.Context) error {
			// The kernel loads the module by itself for someone who makes such
			// an interface, even in a container without modprobe.
			if err := s.tryLink(kind); err != nil {
				return errors.Join(err, s.modprobe(ctx, module))
			}
			return nil
		},
	})
}

// builtin says that a module is part of the kernel.
func (s *system) builtin(module string) bool {
	list, err := s.read("/lib/modules/" + s.release + "/modules.builtin")
	if err != nil {
		return false
	}
	for line := range strings.Lines(list) {
		name, _, _ := strings.Cut(filepath.Base(strings.TrimSpace(line)), ".ko")
		if strings.ReplaceAll(name, "-", "_") == module {
			return true
		}
	}
	return false
}

func (s *system) modprobe(ctx context.Context, module string) error {
	path, err := s.lookPath("modprobe")
	if err != nil {
		return errors.New("there is no program modprobe in the PATH to load it with")
	}
	_, err = s.run(ctx, "", path, module)
	return err
}

// loadModule loads a module that is known to be there by a file of its own.
func (s *system) loadModule(module, sign string) change {
	return change{
		what: "load the kernel module " + module,
		mend: fmt.Sprintf("modprobe %[1]s && echo %[1]s > /etc/modules-load.d/skiff-%[1]s.conf (in a container: on its host)", module),
		done: func() bool { return s.exists(sign) },
		do: func(ctx context.Context) error {
			if err := s.modprobe(ctx, module); err != nil {
				return err
			}
			if !s.exists(sign) {
				return fmt.Errorf("it was loaded, but %s is not there", sign)
			}
			return nil
		},
	}
}

// tryLink makes an interface in a network namespace that ends with the thread.
func tryLink(kind string) error {
	result := make(chan error, 1)
	go func() {
		// Never unlocked, so that the runtime ends the thread, and with it the
		// namespace, when the goroutine ends.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("making a network namespace: %w", err)
			return
		}
		attrs := netlink.LinkAttrs{Name: "skiff-probe"}
		var link netlink.Link = &netlink.GenericLink{LinkAttrs: attrs, LinkType: kind}
		if kind == "vxlan" {
			link = &netlink.Vxlan{LinkAttrs: attrs, VxlanId: 1, Port: 8472}
		}
		if err := netlink.LinkAdd(link); err != nil {
			result <- fmt.Errorf("making an interface of kind %s: %w", kind, err)
			return
		}
		result <- nil
	}()
	return <-result
}

// probeForwarding plans the settings without which no packet reaches a pod.
func probeForwarding(_ context.Context, s *system, opts Options, f *Facts, r *report) {
	f.IPv6 = s.hasIPv6()
	forwarding := []string{"/proc/sys/net/ipv4/ip_forward"}
	bridge := []string{bridgeSysctls + "bridge-nf-call-iptables"}
	if opts.IPv6 {
		if !f.IPv6 {
			r.problem("the cluster is to have IPv6 and this host has it switched off", "sysctl -w net.ipv6.conf.all.disable_ipv6=0, or boot without ipv6.disable=1")
			return
		}
		r.keepRouterAdvertisements(s)
		forwarding = append(forwarding, "/proc/sys/net/ipv6/conf/all/forwarding")
		bridge = append(bridge, bridgeSysctls+"bridge-nf-call-ip6tables")
	}
	for _, path := range forwarding {
		r.sysctl(s, path, "1", true)
	}
	for _, path := range bridge {
		r.sysctl(s, path, "1", opts.FlannelBackend != "none")
	}
}

func (s *system) hasIPv6() bool {
	if !s.exists("/proc/net/if_inet6") {
		return false
	}
	disabled, err := s.read("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	return err != nil || disabled != "1"
}

// keepRouterAdvertisements keeps a host's IPv6 address and default route: with
// forwarding on, the kernel ignores router advertisements unless told twice.
func (r *report) keepRouterAdvertisements(s *system) {
	if on, err := s.read("/proc/sys/net/ipv6/conf/all/forwarding"); err != nil || on == "1" {
		return
	}
	paths, err := filepath.Glob(s.path("/proc/sys/net/ipv6/conf/*/accept_ra"))
	if err != nil {
		return
	}
	for _, path := range paths {
		rel, err := filepath.Rel(s.root, path)
		if err != nil {
			continue
		}
		if value, err := s.read(rel); err == nil && value == "1" {
			r.sysctl(s, "/"+rel, "2", false)
		}
	}
}

// sysctl plans to set a kernel parameter that differs.
func (r *report) sysctl(s *system, path, want string, fatal bool) {
	is := func() bool {
		have, err := s.read(path)
		return err == nil && have == want
	}
	if is() {
		return
	}
	assignment := sysctlName(path) + "=" + want
	r.mend(change{
		what:  "set " + assignment,
		mend:  "sysctl -w " + assignment + " (in a container: on its host)",
		fatal: fatal,
		done:  is,
		do:    func(context.Context) error { return s.write(path, want) },
	})
}

func sysctlName(path string) string {
	return strings.ReplaceAll(strings.TrimPrefix(path, "/proc/sys/"), "/", ".")
}
