package cluster

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// grid is a web server and a shell on every node of a cluster.
type grid struct {
	*cluster
	*framework.Namespace
	webs, shells map[string]pod // by node
}

// pod has an address for each of the cluster's families, the main one first.
type pod struct {
	name string
	ips  []string
}

// newGrid starts the pods and waits for them.
func newGrid(t *testing.T, c *cluster) *grid {
	t.Helper()
	g := &grid{cluster: c, Namespace: c.server.Host.NewNamespace(t)}
	g.Apply(t, everywhere)
	for _, set := range []string{"web", "shell"} {
		g.Kubectl(t, "rollout", "status", "daemonset/"+set, "--timeout=300s")
	}
	g.webs, g.shells = g.pods(t, "web"), g.pods(t, "shell")
	return g
}

// pods are the pods of an app by node: one on each.
func (g *grid) pods(t *testing.T, app string) map[string]pod {
	t.Helper()
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ NodeName string }
			Status   struct{ PodIPs []struct{ IP string } }
		}
	}
	out := g.Kubectl(t, "get", "pods", "-l", "app="+app, "-o", "json")
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	found := map[string]pod{}
	for _, p := range list.Items {
		var ips []string
		for _, ip := range p.Status.PodIPs {
			ips = append(ips, ip.IP)
		}
		found[p.Spec.NodeName] = pod{p.Metadata.Name, ips}
	}
	if len(found) != len(g.hosts()) {
		t.Fatalf("the pods of %s: %v", app, found)
	}
	return found
}

// script asks for a list of things, one after the other, and prints an answer
// to a line. Running one program in a pod for all saves much of the time.
type script []string

// get is one request.
func (s *script) get(url string, options ...string) {
	*s = append(*s, fmt.Sprintf("timeout 20 wget -qO- %s '%s' && echo || exit", strings.Join(options, " "), url))
}

// times is the same request several times.
func times(n int, url string) script {
	var s script
	for range n {
		s.get(url)
	}
	return s
}

// ask runs a script in a pod until the caller likes all answers.
func (g *grid) ask(t *testing.T, from pod, what string, s script, like func(answers string) error) {
	t.Helper()
	framework.Eventually(t, patience, from.name+" asks "+what, func() error {
		answers, err := g.TryExecIn(t.Context(), from.name, "sh", "-c", strings.Join(s, "\n"))
		if err != nil {
			return err
		}
		return like(answers)
	})
}

// lines are an answer's lines that are not empty.
func lines(answers string) []string {
	return strings.FieldsFunc(answers, func(r rune) bool { return r == '\n' })
}

// are wants these answers.
func are(want []string) func(string) error {
	return func(answers string) error {
		if got := lines(answers); !slices.Equal(got, want) {
			return fmt.Errorf("the answers are %q, not %q", got, want)
		}
		return nil
	}
}

// is wants one answer.
func is(want string) func(string) error {
	return func(answer string) error {
		if got := strings.TrimSpace(answer); got != want {
			return fmt.Errorf("the answer is %q, not %q", got, want)
		}
		return nil
	}
}

// only is is, where another answer is an error that time does not mend.
func only(want string) func(string) error {
	return func(answer string) error {
		if err := is(want)(answer); err != nil {
			return framework.Permanent(err)
		}
		return nil
	}
}

// all wants answers from the web servers of all these nodes, in the end.
func (g *grid) all(nodes ...string) func(string) error {
	seen := map[string]bool{}
	return func(answers string) error {
		for _, line := range lines(answers) {
			seen[strings.TrimPrefix(line, "hello from ")] = true
		}
		for _, node := range nodes {
			if !seen[g.webs[node].name] {
				return fmt.Errorf("of %v only %v answered", nodes, seen)
			}
		}
		return nil
	}
}

func (g *grid) nodes() []string {
	var names []string
	for _, h := range g.hosts() {
		names = append(names, h.Hostname())
	}
	slices.Sort(names)
	return names
}

func web(ip, path string) string { return "http://" + net.JoinHostPort(ip, "8080") + path }

// outside asks from the machine until it likes the answer.
func outside(t *testing.T, url string, like func(answer string) error) {
	t.Helper()
	framework.Eventually(t, patience, url+" from outside", func() error {
		answer, err := framework.Fetch(url)
		if err != nil {
			return err
		}
		return like(answer)
	})
}

// pipe has what a command writes read line by line.
func pipe(t *testing.T) (*bufio.Reader, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return bufio.NewReader(r), w
}
