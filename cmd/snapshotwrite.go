package cmd

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/skiff-k8s/skiff/pkg/snapshot"
)

// writeSnapshots prints a list. done is what has happened to what is in it;
// empty: nothing.
func (a *application) writeSnapshots(format, done string, all []snapshot.Info) error {
	if all == nil {
		all = []snapshot.Info{}
	}
	if format == "json" || format == "yaml" {
		return a.writeData(format, all)
	}
	var b strings.Builder
	switch {
	case done != "":
		for _, i := range all {
			fmt.Fprintf(&b, "%s %s (%s), %s\n", done, i.Name, size(i.Size), i.Location)
		}
	case len(all) == 0:
		b.WriteString("There are no snapshots; skiff snapshot save makes one.\n")
	default:
		b.WriteString(snapshotTable(all, time.Now()))
	}
	_, err := fmt.Fprint(a.Stdout, b.String())
	return err
}

func (a *application) writeData(format string, what any) error {
	data, err := json.MarshalIndent(what, "", "  ")
	data = append(data, '\n')
	if format == "yaml" {
		data, err = yaml.Marshal(what)
	}
	if err == nil {
		_, err = a.Stdout.Write(data)
	}
	return err
}

func snapshotTable(all []snapshot.Info, now time.Time) string {
	width := len("NAME")
	for _, i := range all {
		width = max(width, len(i.Name))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-*s  %-5s  %9s  %-8s  %s\n", width, "NAME", "PLACE", "SIZE", "AGE", "CREATED (UTC)")
	for _, i := range all {
		fmt.Fprintf(&b, "%-*s  %-5s  %9s  %-8s  %s\n", width, i.Name, i.Place, size(i.Size), age(now.Sub(i.Created)), i.Created.UTC().Format("2006-01-02 15:04:05"))
		if i.Problem != "" {
			b.WriteString(wrap("of no use: "+i.Problem, 4))
		}
	}
	return b.String()
}

func age(d time.Duration) string {
	if d <= 0 {
		return "0s"
	}
	return timeLeft(d)
}

// size is a number of bytes as people say it.
func size(bytes int64) string {
	switch {
	case bytes < 1<<10:
		return fmt.Sprintf("%d B", bytes)
	case bytes < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(bytes)/(1<<10))
	case bytes < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}
