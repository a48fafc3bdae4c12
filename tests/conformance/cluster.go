package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/skiff-k8s/skiff/scripts/imagetar"
	"github.com/skiff-k8s/skiff/tests/conformance/images"
	"github.com/skiff-k8s/skiff/tests/framework"
)

// tools is the directory inside the host where the tests are.
const tools = "/opt/conformance/"

// cluster is a host whose server is ready, with the tests inside, and the hosts
// of its agents.
type cluster struct {
	*framework.Host
	agents   []*framework.Host
	images   []string // names
	registry *registry
}

// startCluster makes the hosts, gives them images and tests, and starts a server
// and its agents.
func startCluster(ctx context.Context, suite *framework.Suite, o options) (*cluster, error) {
	c, err := makeHosts(ctx, suite, o.nodes)
	if err != nil {
		return nil, err
	}
	if err := c.giveTests(ctx, o); err != nil {
		return nil, err
	}
	if c.registry, err = listenRegistry(c.Gateway()); err != nil {
		return nil, err
	}
	if err := c.preload(ctx, o); err != nil {
		return c, fmt.Errorf("giving the nodes their images: %w", err)
	}
	server, err := c.StartShared(ctx, strings.Fields(o.server)...)
	if err != nil {
		return c, err
	}
	for _, h := range c.agents {
		if _, err := h.StartSharedAgent(ctx, server); err != nil {
			return c, err
		}
	}
	return c, c.awaitImages(ctx)
}

func makeHosts(ctx context.Context, suite *framework.Suite, nodes int) (*cluster, error) {
	network, err := suite.NewSharedCluster()
	if err != nil {
		return nil, err
	}
	c := &cluster{}
	if c.Host, err = network.AddHost(ctx, "server"); err != nil {
		return nil, err
	}
	for i := 1; i < nodes; i++ {
		h, err := network.AddHost(ctx, fmt.Sprintf("agent-%d", i))
		if err != nil {
			return nil, err
		}
		c.agents = append(c.agents, h)
	}
	return c, nil
}

// nodes are all hosts.
func (c *cluster) nodes() []*framework.Host { return append([]*framework.Host{c.Host}, c.agents...) }

// giveTests puts the tests where the server runs.
func (c *cluster) giveTests(ctx context.Context, o options) error {
	for _, name := range []string{"e2e.test", "ginkgo"} {
		if err := c.CopyIn(ctx, filepath.Join(o.parts, name), tools+name); err != nil {
			return fmt.Errorf("giving the host %s: %w", name, err)
		}
	}
	for _, command := range [][]string{
		{"chmod", "0755", tools + "e2e.test", tools + "ginkgo"},
		{"mkdir", "-p", tools + "results"},
		{"ln", "-s", "/usr/local/bin/skiff", tools + "kubectl"},
	} {
		if _, err := c.Try(ctx, nil, command...); err != nil {
			return err
		}
	}
	return nil
}

// preload builds the images and puts them where the nodes import them from,
// and names the registry that serves them as well.
func (c *cluster) preload(ctx context.Context, o options) error {
	begin := time.Now()
	for _, h := range c.nodes() {
		if _, err := h.Try(ctx, strings.NewReader(c.registry.settings()), "sh", "-c",
			"mkdir -p /etc/skiff && cat >/etc/skiff/registries.yaml"); err != nil {
			return err
		}
	}
	archives, err := images.Build(images.Sources{
		Programs: o.parts, Packages: filepath.Join(o.parts, "packages"), Upstream: o.upstream,
	})
	if err != nil {
		return err
	}
	for _, a := range archives {
		if err := c.put(ctx, a); err != nil {
			return err
		}
	}
	c.images = images.Names(archives)
	if err := c.askedFor(ctx); err != nil {
		return err
	}
	fmt.Printf("%6.1f s  %d images are built\n", time.Since(begin).Seconds(), len(c.images))
	return nil
}

// askedFor checks that the tests know the images by these names: other versions
// of Kubernetes have others.
func (c *cluster) askedFor(ctx context.Context) error {
	out, err := c.Try(ctx, nil, tools+"e2e.test", "--list-images")
	if err != nil {
		return fmt.Errorf("asking the tests for their images: %w", err)
	}
	known := strings.Fields(out)
	for _, name := range c.images {
		if !slices.Contains(known, name) {
			return fmt.Errorf("these tests ask for no image %s: compare tests/conformance/images with e2e.test --list-images", name)
		}
	}
	return nil
}

func (c *cluster) put(ctx context.Context, a images.Archive) error {
	path := filepath.Join(c.Directory(), a.File)
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := imagetar.Write(f, a.Images...); err != nil {
		return err
	}
	for _, h := range c.nodes() {
		if err := h.CopyIn(ctx, path, framework.ImageDirectory+a.File); err != nil {
			return err
		}
	}
	return c.registry.add(path)
}

// awaitImages waits until everything is imported: tests that started earlier
// would be told that there is no such image, and lose time.
func (c *cluster) awaitImages(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for _, h := range c.nodes() {
		if err := c.awaitImagesOn(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) awaitImagesOn(ctx context.Context, h *framework.Host) error {
	for {
		out, err := h.Try(ctx, nil, "skiff", "ctr", "-n", "k8s.io", "images", "list", "-q")
		if err != nil {
			return err
		}
		there := strings.Fields(out)
		missing := slices.DeleteFunc(slices.Clone(c.images), func(name string) bool { return slices.Contains(there, name) })
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s has not imported %s: %w", h.Hostname(), strings.Join(missing, ", "), context.Cause(ctx))
		case <-time.After(500 * time.Millisecond):
		}
	}
}
