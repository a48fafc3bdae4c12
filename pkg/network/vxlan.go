package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/lease"
	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// vxlan keeps what leads to the other nodes' pods on the devices that flannel's
// back end has made. flannel's own loop for this cannot be used: when the kernel
// drops notices of links, as it does while a hundred pods start, it follows a nil
// pointer, and that ends the process.
type vxlan struct {
	v4, v6 netlink.Link // nil for an address family that is not used
	// direct says that nodes on the same link need no tunnel.
	direct bool
	log    *logrus.Entry
}

// vxlanConf is what this needs to know of the back end's configuration, with
// upstream's names.
type vxlanConf struct {
	VNI           int
	DirectRouting bool
}

// newVXLAN finds the devices.
func newVXLAN(plan *plan, log *logrus.Entry) (*vxlan, error) {
	conf := vxlanConf{VNI: 1} // upstream's default
	if len(plan.conf.Backend) > 0 {
		if err := json.Unmarshal(plan.conf.Backend, &conf); err != nil {
			return nil, fmt.Errorf("read the configuration of flannel's back end: %w", err)
		}
	}
	v := &vxlan{direct: conf.DirectRouting, log: log}
	for _, device := range []struct {
		used bool
		name string
		link *netlink.Link
	}{
		{plan.conf.EnableIPv4, fmt.Sprintf("flannel.%d", conf.VNI), &v.v4},
		{plan.conf.EnableIPv6, fmt.Sprintf("flannel-v6.%d", conf.VNI), &v.v6},
	} {
		if !device.used {
			continue
		}
		link, err := netlink.LinkByName(device.name)
		if err != nil {
			return nil, fmt.Errorf("find the device %s: %w", device.name, err)
		}
		*device.link = link
	}
	return v, nil
}

// run follows the other nodes until ctx ends, a device is lost, or the kernel
// refuses something: the caller begins anew then.
func (v *vxlan) run(ctx context.Context, known *leases) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	changes := make(chan []lease.LeaseWatchResult)
	watched, lost := make(chan error, 1), make(chan error, 1)
	go func() { watched <- known.WatchLeases(ctx, changes) }()
	go func() { lost <- awaitLoss(ctx, v.links()) }()
	for ctx.Err() == nil {
		select {
		case err := <-lost:
			cancel(err)
			lost <- nil
		case batch := <-changes: // none once it is closed, which is when ctx has ended
			if err := v.apply(batch); err != nil {
				cancel(err)
			}
		}
	}
	for range changes { // its owner ends with ctx
	}
	return errors.Join(context.Cause(ctx), <-watched, <-lost)
}

// apply does all that it can.
func (v *vxlan) apply(batch []lease.LeaseWatchResult) error {
	var errs []error
	for _, result := range batch {
		for _, event := range result.Events {
			tunnels, err := v.tunnels(event.Lease)
			if err != nil {
				v.log.WithError(err).Warn("pods of a node cannot be reached")
				continue
			}
			for _, t := range tunnels {
				if event.Type == lease.EventRemoved {
					t.remove(v.log)
				} else if err := t.add(); err != nil {
					errs = append(errs, err)
				}
			}
		}
	}
	if len(errs) > 0 && errors.Is(present(v.links()), errDeviceLost) {
		return errDeviceLost
	}
	return errors.Join(errs...)
}

func (v *vxlan) links() (links []netlink.Link) {
	for _, link := range []netlink.Link{v.v4, v.v6} {
		if link != nil {
			links = append(links, link)
		}
	}
	return links
}

// tunnels are the ways to another node, one per address family.
func (v *vxlan) tunnels(l lease.Lease) ([]tunnel, error) {
	var found []tunnel
	if l.EnableIPv4 && v.v4 != nil {
		t, err := v.tunnel(v.v4, l.Subnet.ToIPNet(), l.Attrs.PublicIP.ToIP(), l.Attrs.BackendData)
		if err != nil {
			return nil, err
		}
		found = append(found, t)
	}
	if l.EnableIPv6 && v.v6 != nil {
		t, err := v.tunnel(v.v6, l.IPv6Subnet.ToIPNet(), l.Attrs.PublicIPv6.ToIP(), l.Attrs.BackendV6Data)
		if err != nil {
			return nil, err
		}
		found = append(found, t)
	}
	return found, nil
}

func (v *vxlan) tunnel(link netlink.Link, pods *net.IPNet, node net.IP, data json.RawMessage) (t tunnel, err error) {
	var published struct{ VtepMAC string }
	if err := json.Unmarshal(data, &published); err != nil {
		return t, fmt.Errorf("what the node %s has published of its device: %w", node, err)
	}
	t = tunnel{link: link.Attrs().Index, pods: pods, node: node}
	if t.mac, err = net.ParseMAC(published.VtepMAC); err != nil {
		return t, fmt.Errorf("what the node %s has published of its device: %w", node, err)
	}
	if v.direct {
		if t.direct, err = ip.DirectRouting(node); err != nil {
			return t, fmt.Errorf("find the way to the node %s: %w", node, err)
		}
	}
	return t, nil
}

// tunnel is how the pods of another node are reached: a route through the
// node's own address in its range, whose hardware address is known, and which
// the device sends on to the node. A direct one is a route only.
type tunnel struct {
	link   int
	pods   *net.IPNet
	node   net.IP
	mac    net.HardwareAddr
	direct bool
}

func (t tunnel) add() error {
	if !t.direct {
		for _, n := range t.neighbours() {
			if err := netlink.NeighSet(n); err != nil {
				return fmt.Errorf("tell the device where %s is: %w", t.pods, err)
			}
		}
	}
	// Last: without the others the kernel would ask around for the gateway.
	if err := netlink.RouteReplace(t.route()); err != nil {
		return fmt.Errorf("route %s to the node %s: %w", t.pods, t.node, err)
	}
	return nil
}

// remove takes away what is there. What is not has gone with the device, or was
// never made.
func (t tunnel) remove(log *logrus.Entry) {
	errs := []error{netlink.RouteDel(t.route())}
	if !t.direct {
		for _, n := range t.neighbours() {
			errs = append(errs, netlink.NeighDel(n))
		}
	}
	if err := errors.Join(errs...); err != nil {
		log.WithError(err).Debugf("Parts of the way to %s were gone already", t.pods)
	}
}

func (t tunnel) route() *netlink.Route {
	if t.direct {
		return &netlink.Route{Dst: t.pods, Gw: t.node}
	}
	return &netlink.Route{LinkIndex: t.link, Dst: t.pods, Gw: t.pods.IP, Flags: int(netlink.FLAG_ONLINK)}
}

// neighbours are the gateway's hardware address, and the node that has it.
func (t tunnel) neighbours() []*netlink.Neigh {
	return []*netlink.Neigh{
		{LinkIndex: t.link, State: netlink.NUD_PERMANENT, Type: unix.RTN_UNICAST, IP: t.pods.IP, HardwareAddr: t.mac},
		{LinkIndex: t.link, State: netlink.NUD_PERMANENT, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, IP: t.node, HardwareAddr: t.mac},
	}
}
