package etcd

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"

	"github.com/skiff-k8s/skiff/pkg/component"
)

const (
	// upkeepInterval is how often a member looks, in memory, for learners to
	// promote.
	upkeepInterval = time.Second
	// waitingEvery is how often the log says what is waited for.
	waitingEvery = 5 * time.Second
	// startRetry is the pause after a start that needed others in vain.
	startRetry = 2 * time.Second
)

// Member is one member as a component. It is ready when it can read and write:
// when most members are there and it is no learner any more. Until then it
// waits, for as long as it takes.
type Member struct {
	cfg    Config
	log    *logrus.Entry
	server atomic.Pointer[etcdserver.EtcdServer]
	office office
	space  space
}

var (
	_ component.Component   = (*Member)(nil)
	_ component.StopBounder = (*Member)(nil)
)

// New makes the member; nothing is opened before Run.
func New(cfg Config, log *logrus.Entry) *Member {
	return &Member{cfg: cfg, log: log}
}

// Name implements component.Component.
func (m *Member) Name() string { return "etcd" }

// StopTimeout implements component.StopBounder: a leader hands its office over
// first.
func (m *Member) StopTimeout() time.Duration { return 5 * time.Second }

// Leaderless says that nobody answers requests, as when most servers are not
// there.
func (m *Member) Leaderless() bool {
	s := m.server.Load()
	return s != nil && s.Leader() == 0
}

// Run implements component.Component.
func (m *Member) Run(ctx context.Context, ready func()) error {
	name, err := memberName(m.cfg.Dir, m.cfg.Node)
	if err != nil {
		return err
	}
	e, err := m.serve(ctx, name)
	if err == nil && e != nil && !m.cfg.Alone && m.followAddress(ctx, e) {
		e, err = m.connectAgain(ctx, e, name)
	}
	if err != nil || e == nil {
		return err
	}
	defer e.Close()
	m.server.Store(e.Server)
	defer m.server.Store(nil)
	defer m.office.close()
	m.space.startup(ctx, m, e.Server)
	ready()
	ticker := time.NewTicker(upkeepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.Server.StopNotify():
			return m.removed()
		case err := <-e.Err():
			return m.failed(e, err)
		case <-ticker.C:
			m.office.look(e.Server)
			m.promote(ctx, e.Server)
			m.space.look(ctx, m, e.Server)
		}
	}
}

// serve starts etcd and waits until it can be used. The result is nil when ctx
// ends before.
func (m *Member) serve(ctx context.Context, name string) (*embed.Etcd, error) {
	e, err := m.start(ctx, name)
	if err != nil || e == nil {
		return nil, err
	}
	if err := m.await(ctx, e); err != nil || ctx.Err() != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// connectAgain starts etcd again when the others have learnt this server's new
// address. Their last attempts at the old one fail after connections to the new
// one were made, and they take a member for unreachable then until it connects
// again: they would refuse to change the list of members.
func (m *Member) connectAgain(ctx context.Context, e *embed.Etcd, name string) (*embed.Etcd, error) {
	select {
	case <-ctx.Done():
		e.Close()
		return nil, nil
	case <-time.After(dialTimeout):
	}
	e.Close()
	return m.serve(ctx, name)
}

// start starts etcd. A member that joins needs another one for that, and waits
// for it.
func (m *Member) start(ctx context.Context, name string) (*embed.Etcd, error) {
	told := time.Time{}
	for {
		o, err := m.cfg.options(name)
		if err != nil {
			return nil, err
		}
		e, err := embed.StartEtcd(o)
		if err == nil {
			return e, nil
		}
		if m.cfg.InitialCluster == "" || !strings.Contains(err.Error(), "cannot fetch cluster info") {
			return nil, m.explain(err)
		}
		if time.Since(told) > waitingEvery {
			told = time.Now()
			m.log.Warnf("Waiting for the other servers on port %d: %v", peerPort, err)
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(startRetry):
		}
	}
}

// await waits until the member can be used.
func (m *Member) await(ctx context.Context, e *embed.Etcd) error {
	tell := time.NewTicker(waitingEvery)
	defer tell.Stop()
	look := time.NewTicker(upkeepInterval)
	defer look.Stop()
	published := e.Server.ReadyNotify()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.Server.StopNotify():
			return m.removed()
		case err := <-e.Err():
			return m.failed(e, err)
		case <-published:
			if !e.Server.IsLearner() {
				return nil
			}
			published = nil // from here on the ticker looks
		case <-look.C:
			if published == nil && !e.Server.IsLearner() {
				return nil
			}
		case <-tell.C:
			m.log.Warn("Waiting for the other servers: ", missing(e.Server))
		}
	}
}

// missing says who has to come for the member to be of use.
func missing(s *etcdserver.EtcdServer) string {
	if s.IsLearner() {
		return "this server is a learner until it has copied the state and the leader makes it a voter"
	}
	var others []string
	voters := 0
	for _, member := range cluster(s).Members() {
		if !member.IsLearner {
			voters++
		}
		if member.ID != s.MemberID() {
			others = append(others, fmt.Sprintf("%s (%s)", nodeOf(member.Name), strings.Join(member.PeerURLs, ", ")))
		}
	}
	return fmt.Sprintf("%d of the cluster's %d servers have to run; the others are %s. Start them, or see docs/high-availability.md for servers that are lost for good",
		voters/2+1, voters, strings.Join(others, ", "))
}

// stopping is how long etcd takes to stop after one of its listeners has ended.
const stopping = 2 * time.Second

// failed tells a listener that failed from those that end with the member.
func (m *Member) failed(e *embed.Etcd, err error) error {
	select {
	case <-e.Server.StopNotify():
		return m.removed()
	case <-time.After(stopping):
		return fmt.Errorf("the embedded etcd failed: %w", err)
	}
}

// removed is why a member stops by itself, and the only reason for it.
func (m *Member) removed() error {
	return fmt.Errorf("this server was removed from the cluster, because its Node was deleted or by hand: to have it join again, remove %s and start it with --server and --token", m.cfg.Dir)
}

// explain adds what can be done about a failure to start.
func (m *Member) explain(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "address already in use"):
		return fmt.Errorf("the embedded etcd cannot listen: %w: stop the other process (`ss -tlnp '( sport = :%d or sport = :%d )'` names it)", err, clientPort, peerPort)
	case strings.Contains(text, "cannot assign requested address"):
		return fmt.Errorf("the embedded etcd cannot listen on this server's address %s: %w: correct --node-ip", m.cfg.Address, err)
	case strings.Contains(text, "removed"):
		return fmt.Errorf("%w: to have this server join again, remove %s and start it with --server and --token", err, m.cfg.Dir)
	}
	return fmt.Errorf("starting the embedded etcd in %s: %w", m.cfg.Dir, err)
}
