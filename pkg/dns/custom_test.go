package dns

import (
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

func TestTheUsersOwnConfiguration(t *testing.T) {
	host, _ := upstream(t, "127.0.0.1:0", "203.0.113.1")
	corp, _ := upstream(t, "127.0.0.1:0", "203.0.113.2")
	n := connected(t, host)
	a := func(name string) func() string {
		return func() string { return ask(t, "udp", linkLocal, name, mdns.TypeA) }
	}
	eventually(t, "NOERROR 203.0.113.1", a("www.corp.example."))

	good := map[string]string{
		"hosts.override": "hosts {\n  192.0.2.77 printer.example\n  fallthrough\n}",
		"corp.override":  "forward corp.example " + corp.String(),
		"lab.server":     "lab.example:53 {\n    template IN A {\n        answer \"{{ .Name }} 5 IN A 198.51.100.7\"\n    }\n}",
		"README":         "keys without a known suffix are { left alone",
	}
	n.api.customConfig("2", good)
	for name, want := range map[string]string{
		"printer.example.":               "NOERROR 192.0.2.77",
		"www.corp.example.":              "NOERROR 203.0.113.2",
		"some.lab.example.":              "NOERROR 198.51.100.7",
		"example.org.":                   "NOERROR 203.0.113.1",
		"web.default.svc.cluster.local.": "NOERROR 10.43.0.80",
	} {
		t.Run("answers "+name, func(t *testing.T) { eventually(t, want, a(name)) })
	}

	for i, tc := range []struct {
		name, key, text string
		want            []string // parts of the Event's message
	}{
		{"an unknown directive", "a.override", "log\nprometheus :9153", []string{"a.override:2", "Unknown directive 'prometheus'", "available: "}},
		{"a wrong argument", "b.override", "\nforward . not-an-address", []string{"b.override", "not-an-address"}},
		{"a closing brace too many", "c.override", "log\n}\nevil.example {\n  whoami", []string{"c.override: braces do not match"}},
		{"an opening brace too many", "d.server", "x.example {\n  hosts {\n", []string{"d.server"}},
		{"a server block that is there already", "e.server", ".:53 {\n  whoami\n}", []string{"already defined"}},
		{"a file of the node", "f.override", "import /etc/shadow", []string{"f.override:1", "not available"}},
		{"a file of the node in a server block", "k.server", "x.example {\n  whoami\n  import /etc/shadow\n}", []string{"k.server:3", "not available"}},
		{"a file of the node as a server block", "l.server", "import /etc/shadow", []string{"l.server:1", "not available"}},
		{"a variable of the process", "g.override", "forward . {$HOME}", []string{"g.override:1", "not available"}},
		{"another place to listen at", "h.override", "bind 0.0.0.0", []string{"h.override", "bind"}},
		{"a directive of Skiff's own", "i.override", "skiff-unresolved", []string{"Unknown directive"}},
		{"another protocol", "j.server", "tls://example.org {\n  whoami\n}", []string{"only plain DNS"}},
	} {
		t.Run(tc.name+" changes nothing and is reported", func(t *testing.T) {
			before := len(n.api.eventMessages())
			n.api.customConfig(string(rune('3'+i)), map[string]string{tc.key: tc.text, "fine.override": "whoami"})
			eventually(t, "reported", func() string {
				messages := n.api.eventMessages()
				if len(messages) == before {
					return "no event"
				}
				for _, part := range tc.want {
					if last := messages[len(messages)-1]; !strings.Contains(last, part) {
						return "no " + part + " in " + last
					}
				}
				return "reported"
			})
			for name, want := range map[string]string{"printer.example.": "NOERROR 192.0.2.77", "example.org.": "NOERROR 203.0.113.1"} {
				if got := a(name)(); got != want {
					t.Errorf("%s is %q now, want %q", name, got, want)
				}
			}
		})
	}
	t.Run("is left again when the ConfigMap goes", func(t *testing.T) {
		n.api.put("configmaps", CustomConfigMap, nil)
		eventually(t, "NOERROR 203.0.113.1", a("some.lab.example."))
	})
}

func TestSnippetsKeepTheirMeaning(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"words", "forward . 1.1.1.1", "    forward . 1.1.1.1\n"},
		{"quotes", `log . "{remote} {name}"`, "    log . \"{remote} {name}\"\n"},
		{"quotes within quotes", `template IN TXT { answer "a 1 IN TXT \"b c\"" }`, "    template IN TXT { answer \"a 1 IN TXT \\\"b c\\\"\" }\n"},
		{"backslashes", `rewrite name regex (.*)\.a\. {1}.b.`, "    rewrite name regex (.*)\\.a\\. {1}.b.\n"},
		{"an empty word", `header { response set "" }`, "    header { response set \"\" }\n"},
		{"blocks", "hosts {\n  1.2.3.4 a # who\n  fallthrough\n}", "    hosts {\n    1.2.3.4 a\n    fallthrough\n    }\n"},
		{"a directive twice", "log a\nlog b", "    log a\n    log b\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			first, err := parseCustom(map[string]string{"a.override": tc.text})
			if err != nil {
				t.Fatal(err)
			}
			if got := first.directives(); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			again, err := parseCustom(map[string]string{"a.override": first.directives()})
			if err != nil {
				t.Fatal(err)
			}
			if got := again.directives(); got != tc.want {
				t.Errorf("read again, it is %q, want %q", got, tc.want)
			}
		})
	}
	t.Run("two keys with the same directive stay two lines", func(t *testing.T) {
		c, err := parseCustom(map[string]string{"a.override": "log a", "b.override": "log b"})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := c.directives(), "    log a\n    log b\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("what cannot be written again is refused", func(t *testing.T) {
		if _, err := parseCustom(map[string]string{"a.override": `log "a \\" b`}); err == nil {
			t.Error("no error")
		}
	})
}

func TestTheUsersDirectivesReplaceOurs(t *testing.T) {
	c, err := parseCustom(map[string]string{"a.override": "cache 5\nerrors\nloadbalance round_robin"})
	if err != nil {
		t.Fatal(err)
	}
	text := settings{domain: "cluster.local", custom: c}.render()
	for _, directive := range []string{"cache", "errors", "loadbalance"} {
		if got := strings.Count(text, "\n    "+directive); got != 1 {
			t.Errorf("%s is there %d times:\n%s", directive, got, text)
		}
	}
}

func TestRightsThatComeLateAreWaitedFor(t *testing.T) {
	n := start(t)
	n.api.cluster()
	n.api.forbid(true)
	close(n.api.open)
	time.AfterFunc(300*time.Millisecond, func() { n.api.forbid(false) })
	if got := ask(t, "udp", linkLocal, "web.default.svc.cluster.local.", mdns.TypeA); got != "NOERROR 10.43.0.80" {
		t.Errorf("got %q", got)
	}
}
