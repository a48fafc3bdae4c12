package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestAnAgentHasItsOwnSettings(t *testing.T) {
	h := newHost(t).write("config.yaml", "server: https://192.0.2.10\ncluster-cidr: 10.1.0.0/16\nnode-label: [disk=ssd]\n")
	h.in.Role = ForAgent
	h.in.Environ = []string{"SKIFF_TOKEN=secret", "SKIFF_CLUSTER_DOMAIN=example.org"}
	got := h.load()
	if got.Agent.Join.Server != "https://192.0.2.10:6443" || got.Agent.Join.Token.Reveal() != "secret" || !slices.Equal(got.Agent.Node.Labels, []string{"disk=ssd"}) {
		t.Errorf("got %+v", got.Agent)
	}
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "cluster-cidr is for skiff server and has no effect here") {
		t.Errorf("warnings: %q", got.Warnings)
	}
}

func TestAnAgentThatCannotJoinIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		flags Given
		want  string
	}{
		"no server":               {nil, "--server: an agent has to know a server; set server to a URL like https://192.0.2.10:6443"},
		"a server without TLS":    {Given{"server": {"http://a:6443"}}, `--server: "http://a:6443" does not begin with https://`},
		"a server without a host": {Given{"server": {"https://"}}, `--server: "https://" is not the URL of a server`},
		"a server with a path":    {Given{"server": {"https://a:6443/x"}}, `--server: "https://a:6443/x" has more than a host and a port`},
		"a server with a secret":  {Given{"server": {"https://a:b@c:6443"}}, "--server: there are credentials in the URL; give the secret with --token-file or SKIFF_TOKEN"},
		"a token that is none":    {Given{"server": {"https://a"}, "token": {"two words"}}, "--token: the value is not valid"},
		"the kubelet's port":      {Given{"server": {"https://a"}, "lb-server-port": {"10250"}}, "--lb-server-port: port 10250 is taken by the kubelet; choose another, such as 6444"},
		"a setting of servers":    {Given{"server": {"https://a"}, "cluster-cidr": {"10.1.0.0/16"}}, "--cluster-cidr: this is a setting of skiff server; leave it out"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.in.Role, h.in.Flags = ForAgent, c.flags
			if _, err := Load(h.in); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestATokenDoesNotShowItself(t *testing.T) {
	s := Join{Token: "hunter2"}
	encoded, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s), fmt.Sprintf("%q", s.Token), string(encoded)} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("it shows: %s", text)
		}
	}
}
