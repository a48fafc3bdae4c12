package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// section groups the lines whose IDs begin with a prefix.
type section struct{ prefix, title, note string }

// mainLines are the IDs of what stands first, in its order.
func mainLines() []string {
	return []string{
		"cold/api", "cold/node", "cold/deployment", "cold/cpu", "warm/stop", "warm/api", "warm/node",
		"idle/anonymous", "idle/file", "idle/cpu", "idle/switches", "idle/written", "idle/requests", "idle/statements",
		"api/JSON/16/create/rate", "api/JSON/16/create/p50", "api/JSON/16/create/p99", "api/JSON/16/create/cpu",
		"api/JSON/16/get/rate", "api/JSON/16/get/cpu", "api/JSON/16/list/p50", "api/JSON/16/list/cpu",
		"watch/JSON/16/p50", "watch/JSON/16/p99", "watch/JSON/16/cpu",
		"pods/100/p50", "pods/100/last", "pods/100/cpu", "pods/100/memory",
		"services/1000/moved/p50", "services/1000/moved/cpu", "growth/50/memory", "growth/50/cpu",
		"size/programs", "size/download",
	}
}

// headlines are the few that make up the one line at the end, with short names.
func headlines() []struct{ id, name string } {
	return []struct{ id, name string }{
		{"cold/api", "API ready"}, {"cold/deployment", "Deployment"}, {"warm/node", "restart"},
		{"idle/anonymous", "idle anonymous"}, {"idle/memory", "idle memory"}, {"idle/cpu", "idle CPU"},
		{"api/JSON/16/create/rate", "creates"}, {"watch/JSON/16/p50", "100 watchers"}, {"size/programs", "size"},
	}
}

func sections() []section {
	return []section{
		{"cold/", "Cold start", "From an empty data directory."},
		{"warm/", "Restart", "After SIGTERM, with two pods running."},
		{"idle/", "Idle", "Two idle pods."},
		{"flow/", "Idle: API requests by flow schema", "Who asked, as far as priority and fairness tells."},
		{"kind/", "Idle: API requests by verb and resource", "Watches are counted when they end."},
		{"client/", "Idle: API requests by client", "From the audit log, which is switched on for this alone; watches are counted when they begin."},
		{"asks/", "Idle: API requests by client, verb and resource", ""},
		{"memory/", "Idle: anonymous memory by process", ""},
		{"api/", "API", "ConfigMaps of 100 bytes through the TLS port, 500 at each step; a list returns all of them."},
		{"watch/", "Watches", "From a create to the moment at which the last of 100 watchers has the event; 200 creates, 20 000 events."},
		{"pods/", "Pods", ""},
		{"services/", "Services", "Measured once. All endpoints are one host process; kube-proxy's mode is nftables."},
		{"growth/", "Growth", "Measured once. Ten pods for each agent; agents are simulated on the same machine."},
		{"size/", "Size", ""},
		{"start/", "Skiff's start: when components are started", ""},
		{"ready/", "Skiff's start: when components are ready", ""},
	}
}

// table is the Markdown of all results.
func (r *results) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Commit %s, %s. Medians of %d, systems in turn; %s idle after %s.\n", r.Commit,
		r.Begun.Format("2006-01-02 15:04 MST"), r.Repetitions, r.Idle, r.Settle)
	fmt.Fprintf(&b, "Machine: %s. Used by others on it meanwhile: %s %% of a core.\n", r.Machine, list(r.Others))
	fmt.Fprintf(&b, "\n%s\n\n%s", r.summary(), r.mainTable())
	if len(r.seen) > 0 || r.added {
		b.WriteString("\nThe first repetition, looked at once a second, and four times while it starts:\n\n" +
			"![Memory over time](benchmarks-memory.svg)\n\n![CPU over time](benchmarks-cpu.svg)\n")
	}
	b.WriteString("\n### Everything\n")
	for _, s := range sections() {
		r.section(&b, s)
	}
	return b.String()
}

// summary is the result in one line.
func (r *results) summary() string {
	var words []string
	for _, h := range headlines() {
		if l := r.find(h.id); l != nil {
			skiff, stock, ratio := l.columns()
			unit := strings.NewReplacer("% of a core", "%", "1/s", "per second").Replace(l.Unit)
			words = append(words, strings.TrimSpace(fmt.Sprintf("%s %s %s", h.name, join(skiff, stock), unit)+ratio))
		}
	}
	return "Skiff / stock: " + strings.Join(words, "; ") + "."
}

func (r *results) find(id string) *line {
	i := slices.IndexFunc(r.Lines, func(l *line) bool { return l.ID == id })
	if i < 0 {
		return nil
	}
	return r.Lines[i]
}

// head has a column for Skiff on etcd when that was measured.
func (r *results) head() string {
	if r.hasEtcd() {
		return "| | unit | Skiff | Skiff on etcd | stock | Skiff / stock |\n|---|---|---:|---:|---:|---:|\n"
	}
	return "| | unit | Skiff | stock | Skiff / stock |\n|---|---|---:|---:|---:|\n"
}

func (r *results) hasEtcd() bool {
	return slices.ContainsFunc(r.Lines, func(l *line) bool { return len(l.Values[onEtcd]) > 0 })
}

// mainTable is what a reader wants to know first.
func (r *results) mainTable() string {
	var b strings.Builder
	b.WriteString(r.head())
	for _, id := range mainLines() {
		if l := r.find(id); l != nil {
			l.row(&b, r.hasEtcd())
		}
	}
	return b.String()
}

// section folds its lines behind their title.
func (r *results) section(b *strings.Builder, s section) {
	var rows strings.Builder
	for _, l := range r.Lines {
		if strings.HasPrefix(l.ID, s.prefix) {
			l.row(&rows, r.hasEtcd())
		}
	}
	if rows.Len() == 0 {
		return
	}
	fmt.Fprintf(b, "\n<details><summary>%s</summary>\n\n", s.title)
	if s.note != "" {
		fmt.Fprintf(b, "%s\n\n", s.note)
	}
	fmt.Fprintf(b, "%s%s\n</details>\n", r.head(), &rows)
}

func (l *line) row(b *strings.Builder, etcd bool) {
	skiff, stock, ratio := l.columns()
	if etcd {
		skiff += " | " + number(l.median(onEtcd))
	}
	fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", l.Title, l.Unit, skiff, stock, strings.Trim(ratio, " ()"))
}

// columns are the medians and their ratio, " (0.50)", each "" if there is none.
func (l *line) columns() (skiff, stock, ratio string) {
	a, hasA := l.median("skiff")
	b, hasB := l.median("stock")
	if hasA && hasB && b != 0 {
		ratio = fmt.Sprintf(" (%.2f)", a/b)
	}
	return number(a, hasA), number(b, hasB), ratio
}

// join shows two numbers, or the one that there is.
func join(a, b string) string {
	if a != "" && b != "" {
		return a + " / " + b
	}
	return a + b
}

// number shows three digits, as many as mean something.
func number(n float64, there bool) string {
	if !there {
		return ""
	}
	switch a := math.Abs(n); {
	case a >= 100:
		return fmt.Sprintf("%.0f", n)
	case a >= 10:
		return fmt.Sprintf("%.1f", n)
	}
	return fmt.Sprintf("%.2f", n)
}

func list(all []float64) string {
	var words []string
	for _, l := range all {
		words = append(words, fmt.Sprintf("%.0f", l))
	}
	return strings.Join(words, ", ")
}
