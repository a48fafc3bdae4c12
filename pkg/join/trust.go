package join

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/token"
)

// maxCA bounds a CA bundle, in bytes.
const maxCA = 256 << 10

// trust gives the CA that the servers of the cluster have to be certified by:
// the one that this machine has known since it joined, else the one that a
// server offers and the token vouches for.
func (j *joiner) trust(ctx context.Context, server string) ([]byte, error) {
	known, err := os.ReadFile(pki.NodeFilesOf(j.cfg.Layout).ServerCA)
	if err == nil {
		return known, j.sameCluster(known)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the cluster's CA: %w", err)
	}
	c := newUnverified(j.cfg)
	defer c.close()
	offered, err := c.get(ctx, server, protocol.PathCACerts, maxCA)
	if err != nil {
		return nil, err
	}
	want := j.cfg.Token.Hash()
	if want != "" {
		trusted, err := token.Pin(offered, want)
		if err != nil {
			return nil, fmt.Errorf("the server %s is not to be trusted, nothing was sent to it: %w; compare --token with the server's file /var/lib/skiff/server/node-token", server, err)
		}
		return trusted, nil
	}
	got, err := token.HashCA(offered)
	if err != nil {
		return nil, fmt.Errorf("the server %s: %w", server, err)
	}
	if !j.warned {
		j.warned = true
		j.log.Warnf("The token does not say which CA the cluster has, so the one that %s offers is believed, this once: %s. A whole token, K10<hash>::..., would have it checked", server, got)
	}
	return offered, nil
}

// sameCluster holds a token against the CA that this machine knows.
func (j *joiner) sameCluster(known []byte) error {
	want := j.cfg.Token.Hash()
	if want == "" {
		return nil
	}
	_, err := token.Pin(known, want)
	mismatch, differs := errors.AsType[*token.MismatchError](err)
	if err != nil && !differs {
		return err
	}
	if differs {
		got := mismatch.Got
		return fmt.Errorf("%w: its CA has the hash %.12s..., the token is for %.12s...; to move it, stop skiff, remove %s and start again", ErrOtherCluster, got, want, j.cfg.Layout.Agent())
	}
	return nil
}
