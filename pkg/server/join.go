package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/skiff-k8s/skiff/pkg/bootstrap"
	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/datastore/etcd"
	"github.com/skiff-k8s/skiff/pkg/join"
	"github.com/skiff-k8s/skiff/pkg/joinapi"
	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/token"
)

// joinOthers makes this server one of a cluster that is there, at its first
// start: it gets the cluster's keys and a place among the members of etcd.
func (p *parts) joinOthers(ctx context.Context) error {
	l := p.cfg.Layout
	if p.cfg.Join.Server == "" || etcd.Exists(l.Etcd()) {
		return nil
	}
	if _, err := os.Stat(l.SQLite()); err == nil {
		return fmt.Errorf("--server: this server has a cluster of its own, in %s: to have it join %s as a new server, which loses that cluster, move %s away first", l.SQLite(), p.cfg.Join.Server, l.Server())
	}
	given, err := token.Read(p.cfg.Join.Token.Reveal(), p.cfg.Join.TokenFile)
	if err != nil {
		return fmt.Errorf("--token: %w", err)
	}
	name, err := etcd.MemberName(l.Etcd(), p.cfg.Node.Name)
	if err != nil {
		return err
	}
	log := p.logs.For("join")
	answer, err := join.Server(ctx, join.Config{Servers: []string{p.cfg.Join.Server}, Token: given, Layout: l}, protocol.ServerRequest{
		Node: p.cfg.Node.Name, Settings: p.cfg.Shared(), Member: name, PeerURL: etcd.PeerURL(p.peerAddress()),
	}, log)
	if err != nil {
		return err
	}
	if err := p.takeKeys(given.Secret(), answer.Sealed); err != nil {
		return err
	}
	p.initialCluster = answer.InitialCluster
	log.Infof("Joining the servers of %s", p.cfg.Join.Server)
	return nil
}

// takeKeys writes the cluster's keys, over those of no other cluster.
func (p *parts) takeKeys(password string, sealed []byte) error {
	l := p.cfg.Layout
	keys, err := bootstrap.Open(password, sealed)
	if err != nil {
		return err
	}
	have, err := bootstrap.Gather(l)
	if err != nil {
		return err
	}
	for _, path := range keys.Differing(have) {
		if have.Get(path) != nil && strings.HasSuffix(path, "-ca.crt") {
			return fmt.Errorf("--server: this server has been part of another cluster: its %s is not the one of %s; move %s away to join", path, p.cfg.Join.Server, l.Server())
		}
	}
	if err := keys.Write(l); err != nil {
		return err
	}
	p.joined = true
	return bootstrap.Remember(l, password, keys, sealed)
}

// admit lets another server join this one.
func (p *parts) admit(store datastore) joinapi.Admit {
	return func(ctx context.Context, req protocol.ServerRequest) (protocol.ServerAnswer, error) {
		if store.members == nil {
			return protocol.ServerAnswer{}, joinapi.RefuseServer(protocol.ReasonSettings,
				fmt.Sprintf("this cluster's state is not in an embedded etcd but in %s, which no server can join: restart this server with --cluster-init to move it there, or give the other one the same --datastore-endpoint", store.Name()))
		}
		if lines := config.Differing(p.cfg.Shared(), req.Settings); len(lines) > 0 {
			return protocol.ServerAnswer{}, joinapi.RefuseServer(protocol.ReasonSettings,
				"settings differ that all servers of a cluster need to have the same: "+strings.Join(lines, "; ")+" (here is the server that was asked): give the new server the same ones")
		}
		client, err := store.client()
		if err != nil {
			return protocol.ServerAnswer{}, err
		}
		defer client.Close()
		keys, err := bootstrap.Load(ctx, client)
		if err != nil {
			return protocol.ServerAnswer{}, err
		}
		members, err := store.members.Admit(ctx, req.Member, req.PeerURL)
		if errors.Is(err, etcd.ErrBusy) {
			return protocol.ServerAnswer{}, joinapi.HoldServer(err.Error())
		}
		return protocol.ServerAnswer{Sealed: keys.Sealed, InitialCluster: members}, err
	}
}
