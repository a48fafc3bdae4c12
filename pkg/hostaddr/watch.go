package hostaddr

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// settle is how long changes have to pause before they are looked at: DHCP
// removes an address before it adds the next.
const settle = time.Second

// Await is Choose for a host whose network may still be coming up: it waits
// for a usable address. Each time that there is none, report is told why.
func Await(ctx context.Context, cfg Config, report func(error)) (Addresses, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var events <-chan struct{}
	for {
		a, err := Choose(cfg)
		if err == nil || !errors.Is(err, ErrNoAddress) {
			return a, err
		}
		if events == nil {
			// Subscribe, then look once more for what came in between.
			if events, err = subscribe(ctx); err != nil {
				return Addresses{}, err
			}
			continue
		}
		report(err)
		if _, ok := <-events; !ok {
			return Addresses{}, context.Cause(ctx)
		}
	}
}

// Watch sends the node's addresses whenever they differ from the last ones,
// at first from current. While there is no usable address nothing is sent. It
// sleeps in the kernel until an address or a default route changes. The
// channel is closed when ctx ends.
func Watch(ctx context.Context, cfg Config, current Addresses, log *logrus.Entry) (<-chan Addresses, error) {
	ctx, cancel := context.WithCancel(ctx)
	events, err := subscribe(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	changes := make(chan Addresses)
	go func() {
		defer cancel()
		defer close(changes)
		// What happened before the subscription counts too.
		for first := true; first || settled(events); first = false {
			next, err := Choose(cfg)
			if err != nil {
				log.WithError(err).Warn("The node keeps its addresses")
				continue
			}
			if next.Equal(current) {
				continue
			}
			current = next
			select {
			case changes <- next:
			case <-ctx.Done():
				return
			}
		}
	}()
	return changes, nil
}

// settled waits for an event and then for the pause after it. It says false
// when events is closed.
func settled(events <-chan struct{}) bool {
	_, ok := <-events
	for ok {
		select {
		case _, ok = <-events:
		case <-time.After(settle):
			return true
		}
	}
	return false
}

// subscribe sends on the channel for each change of a global address or a
// default route, and closes it when ctx ends. Events that nobody takes become
// one. The library's subscriptions would hold a thread each and wake up for
// every link-local address of every pod.
func subscribe(ctx context.Context) (<-chan struct{}, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	socket := os.NewFile(uintptr(fd), "netlink")
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_IPV4_IFADDR |
		unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE})
	if err != nil {
		return nil, fmt.Errorf("subscribing to address changes: %w", errors.Join(err, socket.Close()))
	}
	events := make(chan struct{}, 1)
	stop := context.AfterFunc(ctx, func() {
		// Fails only on a closed socket, and then nobody reads any more.
		_ = socket.SetReadDeadline(time.Unix(1, 0))
	})
	go func() {
		defer close(events)
		defer socket.Close()
		defer stop()
		buffer := make([]byte, 1<<16)
		for {
			n, err := socket.Read(buffer)
			if ctx.Err() != nil {
				return
			}
			// An overflow of the socket (ENOBUFS) means that much changed.
			if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
				return
			}
			if err == nil && !relevant(buffer[:n]) {
				continue
			}
			select {
			case events <- struct{}{}:
			default:
			}
		}
	}()
	return events, nil
}

// relevant says whether one of the messages is about a global address or a
// default route. Layouts: linux/netlink.h, if_addr.h, rtnetlink.h.
func relevant(messages []byte) bool {
	const header = unix.SizeofNlMsghdr
	for len(messages) >= header+4 {
		size := int(binary.NativeEndian.Uint32(messages))
		if size < header || size > len(messages) {
			return true // not understood
		}
		body := messages[header:size]
		switch binary.NativeEndian.Uint16(messages[4:]) {
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			// family, prefix length, flags, scope
			if len(body) >= 4 && body[3] == unix.RT_SCOPE_UNIVERSE {
				return true
			}
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			// family, length of the destination's prefix
			if len(body) >= 2 && body[1] == 0 {
				return true
			}
		}
		messages = messages[min((size+3)&^3, len(messages)):]
	}
	return false
}
