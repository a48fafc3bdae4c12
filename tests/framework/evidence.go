package framework

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// keepAlways says that evidence of passing tests is wanted too.
func keepAlways() bool { return os.Getenv("KEEP") == "always" }

// shownLines is how much of each log a failure shows by itself.
const shownLines = 15

// dump shows the ends of the host's logs and keeps what a person needs who
// looks for the cause of a failure: the logs, the status of Skiff, and the
// state of the node and, where the cluster's access is, of every pod.
func (h *Host) dump(test string, say func(...any)) {
	h.mu.Lock()
	logs := append([]string(nil), h.logs...)
	h.mu.Unlock()
	for _, path := range append(logs, filepath.Join(h.Directory(), "init.log")) {
		data, err := os.ReadFile(path)
		if err != nil {
			data = []byte(err.Error())
		}
		name := h.Hostname() + "-" + filepath.Base(path)
		kept := h.suite.keep(test, name, string(data))
		if len(data) > 0 {
			say(fmt.Sprintf("the end of %s%s:\n%s", name, kept, tail(string(data), shownLines)))
		}
	}
	say(fmt.Sprintf("the state of host %s%s", h.Hostname(), h.suite.keep(test, h.Hostname()+"-state.txt", h.state())))
}

// state is the output of many commands.
func (h *Host) state() string {
	if !h.Running() {
		return "the host is powered off\n"
	}
	commands := [][]string{
		{"skiff", "status"},
		{"skiff", "status", "-o", "json"},
		{"ps", "-eo", "pid,ppid,stat,etimes,rss,args"},
		{"ip", "address"},
		{"ip", "route"},
		{"ip", "-6", "route"},
		{"ip", "neighbour"},
		{"bridge", "fdb"},
		{"nft", "list", "ruleset"},
		{"cat", "/proc/self/mountinfo"},
	}
	if _, err := h.Try(context.Background(), nil, "test", "-e", "/etc/skiff/kubeconfig.yaml"); err == nil {
		commands = append(commands,
			kubectl([]string{"get", "nodes,pods", "-A", "-o", "wide"}),
			kubectl([]string{"get", "events", "-A", "--sort-by=.lastTimestamp"}),
			kubectl([]string{"describe", "nodes"}),
		)
	}
	var b strings.Builder
	for _, args := range commands {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		out, err := h.Try(ctx, nil, args...)
		cancel()
		fmt.Fprintf(&b, "$ %s\n%s\n", strings.Join(args, " "), out)
		if err != nil {
			fmt.Fprintln(&b, err)
		}
	}
	return b.String()
}

// keep writes evidence and says where it is, to be added to a message. When
// the user wants none it does nothing.
func (s *Suite) keep(test, name, content string) string {
	if os.Getenv("KEEP") == "never" {
		return ""
	}
	dir := filepath.Join(s.artifacts, strings.ReplaceAll(test, "/", "_"))
	path := filepath.Join(dir, name)
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(content), 0o600)
	}
	if err != nil {
		return fmt.Sprintf(" (could not be kept: %v)", err)
	}
	return fmt.Sprintf(" (kept as %s)", path)
}

// tail is the end of a log, for a message.
func tail(log string, lines int) string {
	all := strings.Split(strings.TrimRight(log, "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}
