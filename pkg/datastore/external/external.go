package external

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/k3s-io/kine/pkg/metrics"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// Config is what the datastore has to be told.
type Config struct {
	// Endpoint is the value of --datastore-endpoint, with its password.
	Endpoint string
	// CAFile verifies the datastore's certificate; CertFile and KeyFile are
	// shown to it. All may be empty.
	CAFile, CertFile, KeyFile string
	// Socket is where kine serves etcd's API; etcd itself does not need it.
	Socket string
	// SlowQuery is how long a statement may take before it is logged.
	SlowQuery time.Duration
	// CompactInterval is the time between compactions by kine; 0 leaves them
	// to the API server.
	CompactInterval time.Duration
	// MaxOpen bounds the connections to a database.
	MaxOpen int
}

// store is one kind of datastore.
type store interface {
	// where names the datastore for people, without credentials.
	where() string
	// try connects once. Errors that only a person can mend are a *refusal.
	try(ctx context.Context) error
	// serve makes the datastore available until ctx ends.
	serve(ctx context.Context, ready func()) error
	// endpoints is where it is available then, and tlsConfig what clients
	// need there.
	endpoints() []string
	tlsConfig() *tls.Config
}

// Datastore is the external datastore as a component.
type Datastore struct {
	cfg   Config
	store store
	log   *logrus.Entry
	// waits is why the datastore is being waited for.
	waits atomic.Pointer[string]
}

var (
	_ component.Component    = (*Datastore)(nil)
	_ component.ReadyBounder = (*Datastore)(nil)
	_ component.Explainer    = (*Datastore)(nil)
)

// New makes the datastore, or says what is wrong with the endpoint. Nothing is
// connected before Run.
func New(cfg Config, log *logrus.Entry) (*Datastore, error) {
	s, err := parse(cfg, log)
	if err != nil {
		return nil, fmt.Errorf("--datastore-endpoint: %w", hide(cfg, err))
	}
	return &Datastore{cfg: cfg, store: s, log: log}, nil
}

// parse chooses by the scheme.
func parse(cfg Config, log *logrus.Entry) (store, error) {
	scheme, rest, ok := strings.Cut(cfg.Endpoint, "://")
	if !ok {
		return nil, errors.New("it has no scheme: write it like https://etcd.example.com:2379, postgres://USER:PASSWORD@HOST:5432/DATABASE or mysql://USER:PASSWORD@tcp(HOST:3306)/DATABASE")
	}
	switch scheme {
	case "http", "https":
		return newEtcd(cfg)
	case "postgres", "postgresql":
		return newPostgres(cfg, log)
	case "mysql":
		return newMySQL(cfg, rest, log)
	}
	return nil, fmt.Errorf("datastores of the kind %s:// are not supported: use etcd (https://), postgres:// or mysql://, or leave the setting out for the embedded SQLite", scheme)
}

// Name implements component.Component.
func (d *Datastore) Name() string { return "datastore" }

// Endpoints is where etcd's API is served.
func (d *Datastore) Endpoints() []string { return d.store.endpoints() }

// TLS says whether whoever connects to the endpoints needs the files of the
// configuration: not those who connect to kine's socket.
func (d *Datastore) TLS() bool { return d.store.tlsConfig() != nil }

// Client makes a client, once Run has called ready; the caller closes it.
func (d *Datastore) Client() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: d.Endpoints(), TLS: d.store.tlsConfig(), DialTimeout: tryLimit, Logger: zap.NewNop()})
}

// Metrics are kine's own of a SQL database.
func (d *Datastore) Metrics() []prometheus.Collector {
	if _, sql := d.store.(*kine); !sql {
		return nil
	}
	return []prometheus.Collector{metrics.SQLTotal, metrics.SQLTime, metrics.CompactTotal, metrics.InsertErrorsTotal}
}

// ReadyTimeout implements component.ReadyBounder: a datastore on another
// machine may come up long after this one.
func (d *Datastore) ReadyTimeout() time.Duration { return math.MaxInt64 }

// Explain implements component.Explainer.
func (d *Datastore) Explain() string {
	if why := d.waits.Load(); why != nil {
		return *why
	}
	return ""
}

// Run implements component.Component. It is ready when the datastore answers.
func (d *Datastore) Run(ctx context.Context, ready func()) error {
	if err := d.await(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if err := d.store.serve(ctx, ready); err != nil && ctx.Err() == nil {
		return d.describe(err)
	}
	return nil
}

// How long to wait between two tries, how long a try may take, and after how
// much waiting the log says so again.
const (
	retry    = time.Second
	tryLimit = 10 * time.Second
	again    = time.Minute
)

// await tries until the datastore answers or refuses.
func (d *Datastore) await(ctx context.Context) error {
	began, said, last := time.Now(), time.Time{}, ""
	for {
		err := d.tryOnce(ctx)
		var refused *refusal
		switch {
		case err == nil:
			if !said.IsZero() {
				d.log.WithField("took", time.Since(began).Round(time.Second)).Infof("The datastore %s answers", d.store.where())
			}
			d.waits.Store(nil)
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &refused):
			return d.describe(err)
		}
		why := fmt.Sprintf("the datastore %s does not answer: %v", d.store.where(), hide(d.cfg, err))
		d.waits.Store(&why)
		if why != last || time.Since(said) >= again {
			d.log.Warnf("Waiting: %s", why)
			said, last = time.Now(), why
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d *Datastore) tryOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	return untrusted(d.store.try(ctx))
}

// describe says which datastore an error is about.
func (d *Datastore) describe(err error) error {
	return fmt.Errorf("datastore %s: %w", d.store.where(), hide(d.cfg, err))
}

// refusal is an error that waiting does not mend, and what does.
type refusal struct {
	cause error
	mend  string
}

func (r *refusal) Error() string { return fmt.Sprintf("%v; %s", r.cause, r.mend) }
func (r *refusal) Unwrap() error { return r.cause }

// untrusted finds out that a certificate was the trouble.
func untrusted(err error) error {
	var verification *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	var remote *net.OpError
	switch {
	case errors.As(err, &verification):
		return &refusal{err, "set --datastore-cafile to the certificate authority of the datastore, and name the datastore as its certificate does"}
	case errors.As(err, &header):
		return &refusal{err, "the datastore does not speak TLS at this port: correct --datastore-endpoint"}
	case errors.As(err, &remote) && remote.Op == "remote error": // an alert of TLS
		return &refusal{err, "the datastore does not accept this server's certificate: set --datastore-certfile and --datastore-keyfile to ones that it trusts"}
	}
	return err
}

// hide makes a line of an error, without the endpoint's password.
func hide(cfg Config, err error) error {
	if err == nil {
		return nil
	}
	return hidden{err, secrets(cfg.Endpoint)}
}

type hidden struct {
	error
	secrets []string
}

func (h hidden) Unwrap() error { return h.error }

func (h hidden) Error() string {
	text := strings.Join(strings.Fields(h.error.Error()), " ") // drivers write several lines
	for _, s := range h.secrets {
		text = strings.ReplaceAll(text, s, "(redacted)")
	}
	return text
}

// secrets are the texts of an endpoint that nobody may see: the password, as it
// is written and as it is meant.
func secrets(endpoint string) []string {
	_, rest, _ := strings.Cut(endpoint, "://")
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return nil
	}
	_, password, ok := strings.Cut(rest[:at], ":")
	if !ok || password == "" {
		return nil
	}
	all := []string{password}
	if plain, err := unescape(password); err == nil && plain != password {
		all = append(all, plain)
	}
	return all
}

// hostPort is an address with the port that it has when it names none.
func hostPort(host, port string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}
