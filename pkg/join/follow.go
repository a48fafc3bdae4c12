package join

import (
	"context"
	"errors"
	"net/url"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/protocol"
)

// Changes are told what is new. Each is called from one goroutine at a time and
// must not block for long; nil ones are left out.
type Changes struct {
	// Servers are called with the addresses, "host:port", of the servers that
	// there are now, and once at the start.
	Servers func([]string)
}

const (
	// renewRetryFirst and renewRetryMost bound how soon a renewal that failed
	// is tried again; months are left for it.
	renewRetryFirst = time.Minute
	renewRetryMost  = time.Hour
	// renewInterval is the least time between renewals.
	renewInterval = 6 * time.Hour
	// pollTimeout bounds how long news of servers are waited for: longer than
	// a server takes to say that there are none.
	pollTimeout = 7 * time.Minute
	// followRetryMost bounds how soon a server that does not answer is asked
	// again for news.
	followRetryMost = time.Minute
)

// Follower keeps a node that has joined what it is: it renews certificates
// before they end, with the node's own certificate or else with the token, and
// follows the list of servers. It needs no server to become ready.
type Follower struct {
	cfg     Config
	changes Changes
	log     *logrus.Entry

	// renewing holds one token when the servers have other CAs.
	renewing chan struct{}

	// asked says whether a server was asked since the start, and has issued
	// names and addresses if they were others; renew alone uses it.
	asked bool

	changing sync.Mutex // held while a change is kept and told
	mu       sync.Mutex
	cluster  protocol.ClusterConfig
}

var _ component.Component = (*Follower)(nil)

// NewFollower makes the component. cluster is what Join or Load gave.
func NewFollower(cfg Config, cluster protocol.ClusterConfig, changes Changes, log *logrus.Entry) *Follower {
	return &Follower{cfg: cfg, changes: changes, log: log, cluster: cluster, renewing: make(chan struct{}, 1)}
}

// Name implements component.Component.
func (f *Follower) Name() string { return "membership" }

// Run implements component.Component.
func (f *Follower) Run(ctx context.Context, ready func()) error {
	if err := f.cfg.node().WriteKubeconfigs(); err != nil {
		return err
	}
	if f.changes.Servers != nil {
		f.changes.Servers(f.servers())
	}
	ready()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { f.follow(ctx) })
	f.renew(ctx)
	return nil
}

// servers are all that are known: the cluster's, then those that the user named.
func (f *Follower) servers() []string {
	f.mu.Lock()
	all := slices.Clone(f.cluster.Servers)
	f.mu.Unlock()
	for _, text := range f.cfg.Servers {
		if u, err := url.Parse(text); err == nil && u.Host != "" {
			if host, err := hostPort(text); err == nil && !slices.Contains(all, host) {
				all = append(all, host)
			}
		}
	}
	return all
}

// renew renews whenever it is time, until ctx ends. At the start it asks
// whether the node may still be what it is.
func (f *Follower) renew(ctx context.Context) {
	retry, checked, stale := renewRetryFirst, false, false
	for ctx.Err() == nil {
		due, err := f.due()
		if err != nil {
			f.log.WithError(err).Warn("A certificate of the node cannot be used; asking for new ones")
		}
		needed := err != nil || stale || !time.Now().Before(due)
		if err = nil; needed || !checked {
			err = f.ask(ctx, needed)
		}
		if err != nil && ctx.Err() == nil {
			level := logrus.WarnLevel
			if !needed && !errors.Is(err, ErrRefused) {
				level = logrus.DebugLevel // nothing is lost by asking later
			}
			f.log.WithError(err).Logf(level, "Asking the servers for this node's membership failed, will try again in %s", retry)
			if sleep(ctx, retry) != nil {
				return
			}
			retry = min(2*retry, renewRetryMost)
			continue
		}
		checked, retry, f.asked = true, renewRetryFirst, true
		stale = f.rest(ctx, needed)
	}
}

// rest sleeps until there is something to renew. A certificate that is due for
// good, as those of a CA in its last days are, is not renewed all the time. It
// says whether there is because the servers have other CAs.
func (f *Follower) rest(ctx context.Context, renewed bool) (stale bool) {
	next, err := f.due()
	if least := time.Now().Add(renewInterval); err != nil || renewed && next.Before(least) {
		next = least
	}
	resting, wake := context.WithCancel(ctx)
	defer wake()
	slept := make(chan struct{})
	go func() {
		defer close(slept)
		// Its error is that resting ended.
		_ = pki.WaitUntil(resting, next)
	}()
	select {
	case <-slept:
	case <-f.renewing:
		stale = true
	}
	wake()
	<-slept
	return stale
}

// due is when there is something to renew: now, if names or addresses of the
// node are others than before it was started.
func (f *Follower) due() (time.Time, error) {
	status, err := pki.ReadNode(f.cfg.Layout, f.cfg.NodeName)
	if err != nil {
		return time.Time{}, err
	}
	if !f.asked && !f.cfg.sameNames(status) {
		return time.Time{}, nil
	}
	return status.Due, nil
}

// ask asks each server in turn, with the node's certificate; when that is not
// taken, with the token.
func (f *Follower) ask(ctx context.Context, certificates bool) error {
	j, err := newJoiner(f.cfg, f.log)
	if err != nil {
		return err
	}
	// At the start the node's other components are just reading their keys.
	j.keepKeys = !f.asked
	var errs []error
	for _, server := range f.servers() {
		cluster, err := f.askOne(ctx, j, server, certificates)
		if err == nil {
			f.take(func(c *protocol.ClusterConfig) { *c = cluster })
			return nil
		}
		if refusal, ok := errors.AsType[*RefusedError](err); ok && refusal.Reason == protocol.ReasonCredential && f.cfg.Token.Secret() != "" {
			cluster, err = j.joinBy(ctx, server)
			if err == nil {
				f.take(func(c *protocol.ClusterConfig) { *c = cluster })
				return nil
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (f *Follower) askOne(ctx context.Context, j *joiner, server string, certificates bool) (protocol.ClusterConfig, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	c, err := nodeClient(f.cfg)
	if err != nil {
		return protocol.ClusterConfig{}, err
	}
	defer c.close()
	if certificates {
		cluster, err := j.certify(ctx, c, server)
		if err == nil {
			f.log.Info("Renewed the node's certificates")
		}
		return cluster, err
	}
	answer, err := j.ask(ctx, c, server, nil)
	answer.Cluster.ServerCA = string(c.ca)
	f.mu.Lock()
	answer.Cluster.Trust = f.cluster.Trust // what it stands for was not taken over
	f.mu.Unlock()
	return answer.Cluster, err
}

// take keeps what a server says of the cluster, and tells who has to know.
func (f *Follower) take(change func(*protocol.ClusterConfig)) {
	f.changing.Lock()
	defer f.changing.Unlock()
	f.mu.Lock()
	before, cluster := f.cluster, f.cluster
	change(&cluster)
	f.cluster = cluster
	f.mu.Unlock()
	if reflect.DeepEqual(before, cluster) {
		return
	}
	if err := save(f.cfg.Layout, f.cfg.NodeName, cluster); err != nil {
		f.log.WithError(err).Error("What the servers say of the cluster was not kept")
	}
	if !slices.Equal(before.Servers, cluster.Servers) {
		f.log.WithField("servers", cluster.Servers).Info("The servers of the cluster have changed")
		if f.changes.Servers != nil {
			f.changes.Servers(f.servers())
		}
	}
	before.Servers, before.ServerVersion, before.Trust = cluster.Servers, cluster.ServerVersion, cluster.Trust
	before.ClientCA, before.ServerCA = cluster.ClientCA, cluster.ServerCA
	if !reflect.DeepEqual(before, cluster) {
		f.log.Warn("The cluster's configuration has changed: restart Skiff on this node to follow it")
	}
}

// follow waits for news of servers until ctx ends. A connection that is kept
// carries one question at a time, which a server answers when there is news.
func (f *Follower) follow(ctx context.Context) {
	known, retry := "", retryFirst
	for ctx.Err() == nil {
		news, err := f.poll(ctx, known)
		if err != nil {
			f.log.WithError(err).Debug("Asking for the list of servers failed")
			if sleep(ctx, retry) != nil {
				return
			}
			retry = min(2*retry, followRetryMost)
			continue
		}
		known, retry = news.Version, retryFirst
		f.take(func(c *protocol.ClusterConfig) { c.Servers = news.Servers })
		f.compareTrust(news.Trust)
	}
}

// compareTrust has certificates renewed when the servers have other CAs.
func (f *Follower) compareTrust(now string) {
	f.mu.Lock()
	same := now == "" || now == f.cluster.Trust
	f.mu.Unlock()
	if same {
		return
	}
	f.log.Info("The cluster has other CAs: asking for certificates of theirs")
	select {
	case f.renewing <- struct{}{}:
	default:
	}
}

// poll asks the first server that answers.
func (f *Follower) poll(ctx context.Context, known string) (protocol.Servers, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	c, err := nodeClient(f.cfg)
	if err != nil {
		return protocol.Servers{}, err
	}
	defer c.close()
	var errs []error
	for _, server := range f.servers() {
		var news protocol.Servers
		err := c.getJSON(ctx, server, protocol.PathServers+"?"+protocol.QueryAfter+"="+url.QueryEscape(known), &news)
		if err == nil && len(news.Servers) > 0 {
			return news, nil
		}
		errs = append(errs, err)
	}
	return protocol.Servers{}, errors.Join(errs...)
}
