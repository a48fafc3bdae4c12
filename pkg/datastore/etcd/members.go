package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	etcderrors "go.etcd.io/etcd/server/v3/etcdserver/errors"
)

// cluster are the members, with what only servers know of them.
func cluster(s *etcdserver.EtcdServer) *membership.RaftCluster {
	return s.Cluster().(*membership.RaftCluster)
}

// changeTimeout bounds one change of the members.
const changeTimeout = 10 * time.Second

// ErrBusy says that a member cannot be added now and can be soon.
var ErrBusy = errors.New("another server is joining, or most servers are not there: it will be tried again")

// Admit adds a server that has no data yet as a learner, and gives the members
// that it has to begin with. Asked again by the same server it answers the
// same; a member of that node that went before is removed: its data is lost,
// or it would not ask.
func (m *Member) Admit(ctx context.Context, name, peerURL string) (initialCluster string, err error) {
	s := m.server.Load()
	if s == nil {
		return "", errNotServing
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	urls, err := types.NewURLs([]string{peerURL})
	if err != nil {
		return "", fmt.Errorf("the address of the server that joins: %w", err)
	}
	for _, old := range cluster(s).Members() {
		same := slices.Contains(old.PeerURLs, peerURL)
		switch {
		case old.ID == s.MemberID() && same:
			return "", fmt.Errorf("the address %s is this server's own", peerURL)
		case same && (old.Name == "" || old.Name == name) && !started(old):
			return initial(s, old.ID, name), nil
		case same || old.Name != "" && nodeOf(old.Name) == nodeOf(name):
			m.log.WithField("member", old.Name).Warn("A server joins anew; what it was before leaves the members")
			if _, err := s.RemoveMember(ctx, uint64(old.ID)); err != nil {
				return "", busy(err)
			}
		}
	}
	now := time.Now()
	learner := membership.NewMemberAsLearner("", urls, "", &now)
	if _, err := s.AddMember(ctx, *learner); err != nil {
		return "", busy(err)
	}
	m.log.Infof("The server %s joins, as a learner until it has copied the state", nodeOf(name))
	return initial(s, learner.ID, name), nil
}

// started says whether a member has ever run: it then has told its addresses.
func started(m *membership.Member) bool { return len(m.ClientURLs) > 0 }

// initial are all members with their addresses, the new one under its name,
// as etcd wants them for a member's first start.
func initial(s *etcdserver.EtcdServer, id types.ID, name string) string {
	var all []string
	for _, member := range cluster(s).Members() {
		called := member.Name
		if member.ID == id {
			called = name
		}
		if called == "" { // another one that has not started: any name will do
			called = member.ID.String()
		}
		for _, u := range member.PeerURLs {
			all = append(all, called+"="+u)
		}
	}
	return strings.Join(all, ",")
}

// busy tells what passes by itself from what does not.
func busy(err error) error {
	for _, passing := range []error{
		membership.ErrTooManyLearners, etcderrors.ErrUnhealthy, etcderrors.ErrNotEnoughStartedMembers, etcderrors.ErrNoLeader,
		etcderrors.ErrTimeout, etcderrors.ErrTimeoutLeaderTransfer, etcderrors.ErrLeaderChanged, context.DeadlineExceeded,
	} {
		if errors.Is(err, passing) {
			return fmt.Errorf("%w (%w)", ErrBusy, err)
		}
	}
	return err
}

// promote makes learners voters that have copied the state; the leader knows.
func (m *Member) promote(ctx context.Context, s *etcdserver.EtcdServer) {
	if s.Leader() != s.MemberID() {
		return
	}
	for _, member := range cluster(s).Members() {
		if !member.IsLearner {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, changeTimeout)
		_, err := s.PromoteMember(ctx, uint64(member.ID))
		cancel()
		switch {
		case err == nil:
			m.log.Infof("The server %s has copied the state and is a voter now", nodeOf(member.Name))
		case !errors.Is(err, etcderrors.ErrLearnerNotReady):
			m.log.WithError(err).Debug("A learner cannot be made a voter yet")
		}
	}
}

// followAddress tells the others when this server has another address than
// when it joined, and says whether there are any who know now.
func (m *Member) followAddress(ctx context.Context, e *embed.Etcd) bool {
	want := PeerURL(m.cfg.Address)
	s := e.Server
	var self *membership.Member
	for _, member := range cluster(s).Members() {
		if member.ID == s.MemberID() {
			self = member
		}
	}
	if self == nil || slices.Equal(self.PeerURLs, []string{want}) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	changed := *self
	changed.PeerURLs = []string{want}
	if _, err := s.UpdateMember(ctx, changed); err != nil {
		m.log.WithError(err).Warnf("The other servers could not be told that this one is at %s now; the next start tries again", want)
		return false
	}
	m.log.Infof("The other servers know now that this one is at %s", want)
	return len(cluster(s).Members()) > 1
}

// Remove takes the members of a node off the list. It refuses to take this
// server itself, and what would leave too few.
func (m *Member) Remove(ctx context.Context, node string) error {
	s := m.server.Load()
	if s == nil {
		return errNotServing
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	for _, member := range cluster(s).Members() {
		if nodeOf(member.Name) != node {
			continue
		}
		if member.ID == s.MemberID() && len(cluster(s).VotingMembers()) == 1 {
			return errors.New("it is the only server that is left")
		}
		if _, err := s.RemoveMember(ctx, uint64(member.ID)); err != nil {
			return fmt.Errorf("removing the member %s: %w", member.Name, err)
		}
	}
	return nil
}

// Nodes are the nodes that have members that have started.
func (m *Member) Nodes() []string {
	s := m.server.Load()
	if s == nil {
		return nil
	}
	var names []string
	for _, member := range cluster(s).Members() {
		if member.Name != "" {
			names = append(names, nodeOf(member.Name))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
