package joinapi

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/token"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSkewFollowsUpstream(t *testing.T) {
	for _, tt := range []struct {
		agent, server, want string
	}{
		{"v1.36.4", "v1.36.4", ""},
		{"v1.36.9", "v1.36.4", ""}, // only minor versions count
		{"v1.36.4+skiff0.1.0", "v1.36.4", ""},
		{"v1.33.0", "v1.36.4", ""},
		{"v1.32.9", "v1.36.4", "upgrade the agent"},
		{"v1.37.0", "v1.36.4", "upgrade the servers first"},
		{"v2.36.0", "v1.36.4", "same version"},
		{"", "v1.36.4", "does not say"},
		{"v1.36", "v1.36.4", "does not say"},
		{"latest", "v1.36.4", "does not say"},
	} {
		err := checkSkew(tt.agent, tt.server)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("agent %q with server %s: %v, want %q", tt.agent, tt.server, err, tt.want)
		}
	}
}

func TestFailuresAreLimitedPerSourceAndOverall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter()
		one := netip.MustParsePrefix("192.0.2.1/32")
		for i := range sourceBurst {
			if _, ok := l.take(one); !ok {
				t.Fatalf("held up at attempt %d", i)
			}
		}
		wait, ok := l.take(one)
		if ok || wait <= 0 || wait > sourceRefill {
			t.Fatalf("not held up: %s", wait)
		}
		if _, ok := l.take(netip.MustParsePrefix("192.0.2.2/32")); !ok {
			t.Error("another source is held up, too")
		}
		time.Sleep(wait)
		if _, ok := l.take(one); !ok {
			t.Error("held up for longer than was said")
		}
		if _, ok := l.take(one); ok {
			t.Error("more than one after one wait")
		}

		// Somebody with many addresses.
		denied := 0
		for i := range 2 * overallBurst {
			if _, ok := l.take(netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 32)); !ok {
				denied++
			}
		}
		if denied < overallBurst {
			t.Errorf("only %d of %d from many sources were held up", denied, 2*overallBurst)
		}
		for i := range 3 * maxSources {
			l.take(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32))
		}
		if n := l.sources.Len(); n > maxSources {
			t.Errorf("%d sources are remembered", n)
		}
	})
}

func TestSuccessIsNotLimited(t *testing.T) {
	l := newLimiter()
	from := netip.MustParsePrefix("192.0.2.1/32")
	for range 10 * overallBurst {
		if _, ok := l.take(from); !ok {
			t.Fatal("held up")
		}
		l.giveBack(from)
	}
}

func TestSourceIsAnAddressOrAProvidersCustomer(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:1234": "192.0.2.7/32", "[::ffff:192.0.2.7]:1": "192.0.2.7/32",
		"[2001:db8:1:2:3:4:5:6]:443": "2001:db8:1:2::/64", "[fe80::1%eth0]:1": "fe80::/64", "@": "invalid Prefix",
	} {
		if got := source(remote).String(); got != want {
			t.Errorf("%s counts for %s, want %s", remote, got, want)
		}
	}
}

func TestBootstrapTokenHasToBeFitForJoining(t *testing.T) {
	now := time.Date(2026, time.November, 1, 12, 0, 0, 0, time.UTC)
	tok, err := token.Parse("abc123.0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*corev1.Secret)
		want   string
	}{
		"a good one":          {func(*corev1.Secret) {}, ""},
		"one that never ends": {func(s *corev1.Secret) { delete(s.Data, token.FieldExpiration) }, ""},
		"one of several groups": {func(s *corev1.Secret) {
			s.Data[token.FieldGroups] = []byte("system:bootstrappers:x," + token.JoinGroup)
		}, ""},
		"another secret":              {func(s *corev1.Secret) { s.Data[token.FieldSecret] = []byte("0123456789abcdeg") }, "not known"},
		"no secret":                   {func(s *corev1.Secret) { delete(s.Data, token.FieldSecret) }, "not known"},
		"a Secret that is none":       {func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }, "not known"},
		"another id in it":            {func(s *corev1.Secret) { s.Data[token.FieldID] = []byte("zzzzzz") }, "not known"},
		"one that is being deleted":   {func(s *corev1.Secret) { s.DeletionTimestamp = &metav1.Time{Time: now} }, "not known"},
		"an expired one":              {func(s *corev1.Secret) { s.Data[token.FieldExpiration] = []byte(now.Format(time.RFC3339)) }, "expired"},
		"an expiration that is none":  {func(s *corev1.Secret) { s.Data[token.FieldExpiration] = []byte("soon") }, "no time"},
		"one for signing alone":       {func(s *corev1.Secret) { delete(s.Data, token.FieldAuthentication) }, "not for authentication"},
		"one of another group":        {func(s *corev1.Secret) { s.Data[token.FieldGroups] = []byte("system:bootstrappers:kubeadm") }, "not in the group"},
		"one of a group of like name": {func(s *corev1.Secret) { s.Data[token.FieldGroups] = []byte(token.JoinGroup + "s") }, "not in the group"},
	} {
		t.Run(name, func(t *testing.T) {
			secret := &corev1.Secret{Type: corev1.SecretType(token.SecretType), Data: map[string][]byte{
				token.FieldID: []byte("abc123"), token.FieldSecret: []byte("0123456789abcdef"), token.FieldAuthentication: []byte("true"),
				token.FieldGroups: []byte(token.JoinGroup), token.FieldExpiration: []byte(now.Add(time.Second).Format(time.RFC3339)),
			}}
			tt.change(secret)
			got := unfitBootstrap(secret, tok, now)
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) || strings.Contains(got, "0123456789abcdef") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestWhoMayClaimAName(t *testing.T) {
	now := time.Date(2026, time.November, 1, 12, 0, 0, 0, time.UTC)
	secret := func(owner types.UID, age time.Duration) *corev1.Secret {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{claimedAnnotation: now.Add(-age).Format(time.RFC3339)}}}
		if owner != "" {
			s.OwnerReferences = ownedBy("n", owner)
		}
		return s
	}
	for _, tt := range []struct {
		name           string
		secret         *corev1.Secret // nil: none
		uid            types.UID
		byToken, byCrt bool
	}{
		{"nobody has it", nil, "", true, true},
		{"a Node has it whose machine is not known", nil, "a", false, true},
		{"another machine's Node has it", secret("a", time.Hour), "a", false, false},
		{"its Node was deleted", secret("a", time.Hour), "", true, true},
		{"its Node was deleted and made again", secret("a", time.Hour), "b", false, true},
		{"claimed a moment ago, without a Node yet", secret("", time.Second), "", false, false},
		{"claimed long ago, and never a Node", secret("", unregistered), "", true, true},
		{"claimed, and its Node has just come", secret("", time.Hour), "a", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for certified, want := range map[bool]bool{false: tt.byToken, true: tt.byCrt} {
				no := taken("n", tt.secret, tt.secret == nil, tt.uid, certified, now)
				if (no == nil) != want {
					t.Errorf("with a certificate %v: refused: %v, want it to be let in: %v", certified, no, want)
				}
				if no != nil && no.Reason != protocol.ReasonNodePassword {
					t.Errorf("the reason is %s", no.Reason)
				}
			}
		})
	}
}

func TestHashOfPasswords(t *testing.T) {
	one, err := hashPassword("secret-of-a-node")
	if err != nil {
		t.Fatal(err)
	}
	two, err := hashPassword("secret-of-a-node")
	if err != nil {
		t.Fatal(err)
	}
	if one == two || strings.Contains(one, "secret") {
		t.Errorf("no salt, or no hash: %s", one)
	}
	if !matches(one, "secret-of-a-node") || !matches(two, "secret-of-a-node") {
		t.Error("the password does not match its hash")
	}
	for _, hash := range []string{one, "", "1", "1::", "2" + one[1:], "1:!:!", strings.ToLower(one)} {
		if matches(hash, "secret-of-another") || hash != one && matches(hash, "secret-of-a-node") {
			t.Errorf("%q matches", hash)
		}
	}
}

func TestServersAreWhatTheEndpointSliceSays(t *testing.T) {
	yes, no, port, name := true, false, int32(6443), "https"
	slice := &discoveryv1.EndpointSlice{
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"192.0.2.2"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}},
			{Addresses: []string{"2001:db8::1"}},
			{Addresses: []string{"192.0.2.3"}, Conditions: discoveryv1.EndpointConditions{Ready: &no}},
		},
	}
	s := &servers{self: "192.0.2.9:6443", changed: make(chan struct{})}
	s.set(nil)
	first, changed := s.watch()
	if fmt.Sprint(first.Servers) != "[192.0.2.9:6443]" {
		t.Errorf("without a list: %v", first.Servers)
	}
	s.set(addresses(slice))
	select {
	case <-changed:
	default:
		t.Error("those who wait are not told")
	}
	second, changed := s.watch()
	if fmt.Sprint(second.Servers) != "[192.0.2.2:6443 [2001:db8::1]:6443]" || second.Version == first.Version {
		t.Errorf("got %+v after %+v", second, first)
	}
	s.set([]string{second.Servers[1], second.Servers[0]})
	select {
	case <-changed:
		t.Error("the same list in another order is news")
	default:
	}
}

func TestRefusalsAreErrors(t *testing.T) {
	err := wrong("no")
	var r *refusal
	if !errors.As(err, &r) || r.status != 401 || err.Error() != "no" {
		t.Errorf("%#v", err)
	}
}
