package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/flannel-io/flannel/pkg/backend"
)

const (
	// routeRetryFirst and routeRetryMost bound the time between attempts to
	// start a back end; it doubles in between.
	routeRetryFirst = time.Second
	routeRetryMost  = time.Minute
	// routeStop is how long a back end may take to end. Some of flannel's sleep
	// while they wait for a device.
	routeStop = time.Second
)

// keepRoutes runs the back end as soon as there is another node, and again if
// its device is deleted.
func (c *Component) keepRoutes(ctx context.Context, plan *plan, peers *peers) {
	if err := removeLinks(plan.unusedLinks()); err != nil {
		c.log.WithError(err).Warn("devices of another flannel back end are still there")
	}
	select {
	case <-ctx.Done():
		return
	case <-peers.appeared:
	}
	delay := routeRetryFirst
	for {
		err := c.route(ctx, plan, peers)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errDeviceLost) {
			c.log.Warn("the device to other nodes was deleted by someone; it is made anew")
			delay = routeRetryFirst
			continue
		}
		c.log.WithError(err).WithField("again", delay).Error("pods of other nodes cannot be reached")
		if !pause(ctx, delay) {
			return
		}
		delay = min(2*delay, routeRetryMost)
	}
}

var errDeviceLost = errors.New("the device is gone")

// route starts the back end and returns when ctx ends, the back end fails or
// its device is lost.
func (c *Component) route(ctx context.Context, plan *plan, peers *peers) error {
	ext, err := externalInterface(c.cfg, plan.conf.EnableIPv4, plan.conf.EnableIPv6)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	known := &leases{plan: plan, peers: peers, log: c.log}
	be, err := backend.NewManager(ctx, known, ext).GetBackend(plan.conf.BackendType)
	if err != nil {
		return fmt.Errorf("start flannel's back end %s: %w", plan.conf.BackendType, err)
	}
	// Back ends add goroutines of theirs that end with ctx.
	var started sync.WaitGroup
	network, err := be.RegisterNetwork(ctx, &started, plan.conf)
	if err != nil {
		return fmt.Errorf("start flannel's back end %s on %s: %w", plan.conf.BackendType, ext.IfaceName, err)
	}
	c.log.WithField("backend", plan.conf.BackendType).WithField("link", ext.IfaceName).Info("connecting to pods of other nodes")
	err = c.follow(ctx, plan, known, network)
	cancel()
	ended := make(chan struct{})
	go func() {
		started.Wait()
		close(ended)
	}()
	bound := time.NewTimer(routeStop)
	defer bound.Stop()
	select {
	case <-ended:
	case <-bound.C:
		c.log.Debug("flannel's back end is still waiting for something; it is left to end by itself")
	}
	return err
}

// follow keeps the routes to the other nodes until ctx ends, or it can not go on.
func (c *Component) follow(ctx context.Context, plan *plan, known *leases, network backend.Network) error {
	if plan.conf.BackendType == BackendVXLAN {
		v, err := newVXLAN(plan, c.log)
		if err != nil {
			return err
		}
		return v.run(ctx, known)
	}
	ended := make(chan struct{})
	go func() {
		network.Run(ctx)
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		bound := time.NewTimer(routeStop)
		defer bound.Stop()
		select {
		case <-ended:
		case <-bound.C:
		}
		return ctx.Err()
	}
	return fmt.Errorf("flannel's back end %s ended", plan.conf.BackendType)
}

// unusedLinks are the devices of the back ends that are not chosen.
func (p *plan) unusedLinks() []string {
	used := map[string][]string{
		"vxlan":     {"flannel.1", "flannel-v6.1"},
		"wireguard": {"flannel-wg", "flannel-wg-v6"},
	}[p.conf.BackendType]
	return slices.DeleteFunc(flannelLinks(), func(name string) bool { return slices.Contains(used, name) })
}
