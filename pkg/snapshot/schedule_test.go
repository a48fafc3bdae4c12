package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skiff-k8s/skiff/pkg/bootstrap"
)

// store answers as a datastore with one key, or not at all.
type store struct {
	clientv3.KV
	failing error
	delay   time.Duration
}

func (s *store) Get(context.Context, string, ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	time.Sleep(s.delay)
	if s.failing != nil {
		return nil, s.failing
	}
	return &clientv3.GetResponse{
		Header: &etcdserverpb.ResponseHeader{Revision: 7}, Count: 1,
		Kvs: []*mvccpb.KeyValue{{Key: []byte("/k"), Value: []byte("v"), ModRevision: 3, CreateRevision: 3}},
	}, nil
}

// ca is what a token's hash can be made of.
var ca = []byte(`-----BEGIN CERTIFICATE-----
MIIBbzCCARWgAwIBAgIUdxXjvbzmDtztBm3ma+03lK76WR4wCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBYTAgFw0yNjExMjYwODQyMTBaGA8yMTI2MTEwMjA4NDIxMFow
DDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABD3kr1AlCBFu
XAX25TBfUAXKJWYhYGFa8h4FMUIQkudwPyGC2mvSRlsBOXrvw1/A78Q1WlMozSm3
UGdatUmOBOajUzBRMB0GA1UdDgQWBBRVfhvcijbKfwUBGUpGyFYqC97ENDAfBgNV
HSMEGDAWgBRVfhvcijbKfwUBGUpGyFYqC97ENDAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0gAMEUCIQCiH45FyEnITlotISf58H2Jxk4S7grSBKBOP0EIFp4S
JgIgQVFE9dTae7wXzsllekpHBZ+sKFYxsbGwdzUg4imZ0SI=
-----END CERTIFICATE-----
`)

func newTestKeeper(dir string, s *store) *Keeper {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return New(Config{
		Directory: dir, Prefix: "s", Retention: 3, Keys: Keys{Prefixes: []string{"/k"}}, About: Metadata{Node: "a"},
		Source: func() (*clientv3.Client, error) {
			c := clientv3.NewCtxClient(context.Background())
			c.KV = s
			return c, nil
		},
		Gather: func() (bootstrap.Data, error) {
			return bootstrap.Data{Files: []bootstrap.File{{Path: bootstrap.ServerCA, Content: ca}}}, nil
		},
		Seal: func(bootstrap.Data) ([]byte, error) { return []byte("sealed"), nil },
	}, logrus.NewEntry(log))
}

func madeAt(t *testing.T, k *Keeper) string {
	t.Helper()
	all, err := k.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var times []string
	for _, i := range slices.Backward(all) {
		times = append(times, i.Created.Format("02 15:04"))
	}
	return strings.Join(times, ", ")
}

func TestTheScheduleMakesUpForWhatWasMissedAndInsists(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { // the bubble's time begins on 1 January 2000, 0:00 UTC
		s := &store{}
		k := newTestKeeper(dir, s)
		var told []string
		tell := func(_ context.Context, err error) {
			told = append(told, fmt.Sprintf("%s %v", time.Now().UTC().Format("02 15:04"), err))
		}
		ctx, stop := context.WithCancel(t.Context())
		c, err := NewSchedule(k, "CRON_TZ=UTC 30 */12 * * *", time.Now().Add(-20*time.Hour), tell, k.log)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx, func() {}) }()

		time.Sleep(time.Minute)
		if got, want := madeAt(t, k), "01 00:00"; got != want {
			t.Errorf("after the start there are %s, want %s", got, want)
		}
		s.failing = errors.New("no datastore")
		time.Sleep(13 * time.Hour) // 13:01: failed at 0:30 and 12:30, several times each
		if got, want := madeAt(t, k), "01 00:00"; got != want {
			t.Errorf("without a datastore there are %s, want %s", got, want)
		}
		if len(told) < 10 || !strings.HasPrefix(told[0], "01 00:30 ") || !strings.HasPrefix(told[1], "01 00:31 ") || !strings.HasPrefix(told[2], "01 00:33 ") || !strings.Contains(told[0], "no datastore") {
			t.Errorf("told was %q", told)
		}
		s.failing = nil
		time.Sleep(45 * time.Hour) // to 3 January, 10:01
		if got := madeAt(t, k); !strings.HasSuffix(got, "02 00:30, 02 12:30, 03 00:30") || strings.Count(got, ",") != 2 {
			t.Errorf("in the end there are %s", got)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestTheScheduleOfANewClusterWaits(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := newTestKeeper(dir, &store{})
		ctx, stop := context.WithCancel(t.Context())
		c, err := NewSchedule(k, "CRON_TZ=UTC 0 */12 * * *", time.Now().Add(time.Second), func(context.Context, error) {}, k.log)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx, func() {}) }()
		time.Sleep(11 * time.Hour)
		if got := madeAt(t, k); got != "" {
			t.Errorf("there are %s", got)
		}
		time.Sleep(2 * time.Hour)
		if got := madeAt(t, k); got != "01 12:00" {
			t.Errorf("there are %s", got)
		}
		stop()
		<-ended
	})
}

func TestWhatTakesTimeIsReported(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := newTestKeeper(dir, &store{delay: 700 * time.Millisecond})
		k.cfg.Keys.Prefixes = []string{"/a", "/b", "/c", "/d"}
		var told []Progress
		if _, err := k.Save(t.Context(), "s", func(p Progress) { told = append(told, p) }); err != nil {
			t.Fatal(err)
		}
		// Each prefix is counted, then read; the first report is after the first
		// second in which something was read.
		if want := fmt.Sprint([]Progress{{1, 4}, {3, 4}}); fmt.Sprint(told) != want {
			t.Errorf("in 5.6 s was told %v, want %s", told, want)
		}
	})
}
