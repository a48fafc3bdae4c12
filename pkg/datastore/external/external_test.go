package external

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/sirupsen/logrus"
)

// password is one that would be noticed, with characters that URLs escape.
const (
	password = "hunter2%2Fwith%40more"
	meant    = "hunter2/with@more"
)

func TestEndpointsAreNamedWithoutTheirPasswords(t *testing.T) {
	for endpoint, want := range map[string]string{
		"postgres://skiff:" + password + "@db.example/Cluster?sslmode=require": "postgres://skiff@db.example:5432/cluster",
		"postgresql://skiff:" + password + "@[2001:db8::1]:5433":               "postgres://skiff@[2001:db8::1]:5433/kubernetes",
		"mysql://skiff:" + meant + "@tcp(db.example:3307)/cluster":             "mysql://skiff@tcp(db.example:3307)/cluster",
		"mysql://skiff:" + meant + "@unix(/run/db.sock)/":                      "mysql://skiff@unix(/run/db.sock)/kubernetes",
		"https://a.example,https://b.example:2380":                             "https://a.example:2379,https://b.example:2380",
	} {
		d, err := New(Config{Endpoint: endpoint, Socket: "/run/kine.sock"}, nil)
		if err != nil {
			t.Errorf("%s: %v", want, err)
		} else if got := d.store.where(); got != want {
			t.Errorf("named %s, want %s", got, want)
		}
	}
}

func TestAnEndpointThatCanNotBeReadIsRefusedWithoutItsPassword(t *testing.T) {
	for endpoint, want := range map[string]string{
		"db.example":                                       "it has no scheme",
		"nats://skiff:" + password + "@host":               "nats:// are not supported",
		"postgres://skiff:" + password + "%zz@host/db":     "it is not a URL",
		"postgres://skiff:" + password + "@host:port/db":   "it is not a URL",
		"postgres://skiff:" + password + "@h/d?sslmode=no": "sslmode is invalid",
		"mysql://skiff:" + meant + "@tcp(host)":            "write it like mysql://",
		"https://skiff:" + password + "@host":              "client certificate",
		"https://host,postgres://skiff:" + password + "@h": "member 2",
	} {
		_, err := New(Config{Endpoint: endpoint}, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the password is in the message: %v", err)
		}
	}
}

func TestWhatADatabaseRefusesIsMended(t *testing.T) {
	pg, err := newPostgres(Config{Endpoint: "postgres://skiff:x@host/cluster"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	my, err := newMySQL(Config{}, "skiff:x@tcp(host)/cluster", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		explain func(error) error
		err     error
		mend    string
	}{
		{pg.(*kine).explain, &pgconn.PgError{Code: pgWrongPassword}, "the password in --datastore-endpoint"},
		{pg.(*kine).explain, &pgconn.PgError{Code: pgNotAuthorized}, "pg_hba.conf"},
		{pg.(*kine).explain, &pgconn.PgError{Code: pgNoDatabase}, `CREATE DATABASE "cluster" OWNER "skiff"`},
		{pg.(*kine).explain, &pgconn.PgError{Code: pgNotAllowed}, `ALTER DATABASE "cluster" OWNER TO "skiff"`},
		{my.(*kine).explain, &mysql.MySQLError{Number: mysqlWrongPassword}, "the password in --datastore-endpoint"},
		{my.(*kine).explain, &mysql.MySQLError{Number: mysqlNoSuchDatabase}, "CREATE DATABASE `cluster`"},
		{my.(*kine).explain, &mysql.MySQLError{Number: mysqlNotYourDatabase}, "GRANT ALL ON `cluster`.*"},
		{my.(*kine).explain, mysql.ErrNoTLS, "switch TLS on"},
	} {
		var r *refusal
		if err := test.explain(test.err); !errors.As(err, &r) || !strings.Contains(r.mend, test.mend) {
			t.Errorf("%v: %v, want %q", test.err, err, test.mend)
		}
	}
	// A database that is starting, or that has too many clients, is waited for.
	for _, code := range []string{"57P03", "53300"} {
		var r *refusal
		if err := pg.(*kine).explain(&pgconn.PgError{Code: code}); err == nil || errors.As(err, &r) {
			t.Errorf("%s: %v", code, err)
		}
	}
}

func TestADatastoreThatDoesNotAnswerIsWaitedFor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	for _, endpoint := range []string{"postgres://skiff:" + password + "@" + at + "/x", "mysql://skiff:" + meant + "@tcp(" + at + ")/x", "http://" + at, "https://" + at} {
		t.Run(endpoint[:5], func(t *testing.T) {
			t.Parallel()
			log := &heard{warned: make(chan struct{})}
			d, err := New(Config{Endpoint: endpoint, Socket: filepath.Join(t.TempDir(), "s")}, log.entry())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- d.Run(ctx, func() { t.Error("it is ready") }) }()
			select {
			case <-log.warned:
			case err := <-done:
				t.Fatalf("it gave up: %v", err)
			case <-time.After(time.Minute):
				t.Fatal("it says nothing")
			}
			if why := d.Explain(); !strings.Contains(why, "does not answer") || !strings.Contains(why, at) {
				t.Errorf("it explains %q", why)
			}
			cancel()
			if err := <-done; err != nil {
				t.Errorf("stopped while waiting: %v", err)
			}
			if text := log.String(); strings.Contains(text, "hunter2") {
				t.Errorf("the password is in the log: %s", text)
			}
		})
	}
}

// heard is a log that tells of its first line.
type heard struct {
	mu     sync.Mutex
	text   strings.Builder
	warned chan struct{}
}

func (h *heard) entry() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(h)
	return logrus.NewEntry(l)
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.text.Len() == 0 {
		close(h.warned)
	}
	return h.text.Write(p)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

func TestACertificateThatIsNotTrustedIsNotWaitedFor(t *testing.T) {
	cert := selfSigned(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = c.(*tls.Conn).HandshakeContext(t.Context()); c.Close() }()
		}
	}()
	d, err := New(Config{Endpoint: "https://" + l.Addr().String(), Socket: "x"}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(t.Context(), func() {}); err == nil || !strings.Contains(err.Error(), "--datastore-cafile") {
		t.Errorf("it ended with %v", err)
	}
}

func quiet() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(new(strings.Builder))
	return logrus.NewEntry(l)
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcd"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
