package network

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// lossPause is how long notices of links are not followed after the kernel has
// dropped some: there are very many then.
const lossPause = time.Second

// awaitLoss returns errDeviceLost when one of the links is deleted, nil when ctx
// ends, and another error when the kernel does not tell.
func awaitLoss(ctx context.Context, links []netlink.Link) error {
	for {
		err := followLinks(ctx, links)
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, errDropped) {
			return err
		}
		if !pause(ctx, lossPause) {
			return nil
		}
	}
}

// errDropped is the end of a subscription: the kernel had more to tell than was
// fetched in time.
var errDropped = errors.New("the kernel has dropped notices of links")

// followLinks does so for as long as no notice is dropped.
func followLinks(ctx context.Context, links []netlink.Link) error {
	updates, done := make(chan netlink.LinkUpdate, 64), make(chan struct{})
	if err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{}); err != nil {
		return fmt.Errorf("follow the host's links: %w", err)
	}
	defer func() {
		close(done)
		go func() { // until the subscription has seen that it is over
			for range updates {
			}
		}()
	}()
	// What happened before the subscription is seen here.
	if err := present(links); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case update, ok := <-updates:
			if !ok {
				return errDropped
			}
			// A bridge tells of links that leave it in the same way.
			if update.Header.Type == unix.RTM_DELLINK && concerns(update, links) {
				if err := present(links); err != nil {
					return err
				}
			}
		}
	}
}

func concerns(update netlink.LinkUpdate, links []netlink.Link) bool {
	for _, link := range links {
		if int(update.Index) == link.Attrs().Index {
			return true
		}
	}
	return false
}

// present looks whether the links are there. One of the same name that was made
// since is another.
func present(links []netlink.Link) error {
	for _, link := range links {
		_, err := netlink.LinkByIndex(link.Attrs().Index)
		var gone netlink.LinkNotFoundError
		if errors.As(err, &gone) {
			return errDeviceLost
		}
		if err != nil {
			return fmt.Errorf("look for the device %s: %w", link.Attrs().Name, err)
		}
	}
	return nil
}
