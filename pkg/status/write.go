package status

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// Formats are the values that Write takes, the first one for people.
func Formats() []string { return []string{"table", "json", "yaml"} }

// Write shows a report.
func Write(w io.Writer, format string, r Report) error {
	switch format {
	case "", "table":
		_, err := io.WriteString(w, table(r))
		return err
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	case "yaml":
		data, err := yaml.Marshal(r)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	}
	return fmt.Errorf("output format %q is not known: use one of %s", format, strings.Join(Formats(), ", "))
}

// width is that of a terminal of no particular size.
const width = 80

func table(r Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "skiff %s %s, Kubernetes %s, pid %d, up %s\n",
		r.Version, r.Role, r.Kubernetes, r.PID, uptime(r.UptimeSeconds.duration()))
	var facts []string
	if r.NodeName != "" {
		facts = append(facts, "node "+r.NodeName)
	}
	if r.APIReadyAfterSeconds > 0 {
		facts = append(facts, "API ready after "+after(r.APIReadyAfterSeconds))
	}
	if r.NodeReadyAfterSeconds > 0 {
		facts = append(facts, "node ready after "+after(r.NodeReadyAfterSeconds))
	}
	if len(facts) > 0 {
		b.WriteString(wrap(strings.Join(facts, ", "), ""))
	}
	name := len("COMPONENT")
	for _, c := range r.Components {
		name = max(name, len(c.Name))
	}
	fmt.Fprintf(&b, "\n%-*s  %-8s  %11s\n", name, "COMPONENT", "STATE", "READY AFTER")
	for _, c := range r.Components {
		fmt.Fprintf(&b, "%s\n", strings.TrimRight(fmt.Sprintf("%-*s  %-8s  %11s", name, c.Name, c.State, after(c.ReadyAfterSeconds)), " "))
		switch {
		case c.Error != "":
			b.WriteString(wrap(c.Error, "    "))
		case len(c.WaitingOn) > 0:
			b.WriteString(wrap("waits for "+strings.Join(c.WaitingOn, ", "), "    "))
		}
	}
	return b.String()
}

func after(s Seconds) string {
	if s == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f s", float64(s))
}

// uptime is a duration to the second, or to the minute when it is long.
func uptime(d time.Duration) string {
	switch {
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// wrap breaks text into lines of at most width bytes, each after the indent.
func wrap(text, indent string) string {
	var b strings.Builder
	line := indent
	for _, word := range strings.Fields(text) {
		if len(line) > len(indent) && len(line)+1+len(word) > width {
			b.WriteString(line + "\n")
			line = indent
		}
		if len(line) > len(indent) {
			line += " "
		}
		line += word
	}
	return b.String() + line + "\n"
}
