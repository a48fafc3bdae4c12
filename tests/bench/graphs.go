package main

import (
	"fmt"
	"slices"

	"github.com/skiff-k8s/skiff/tests/bench/graph"
)

// measured is what was seen of one system in one repetition.
type measured struct {
	system     string
	repetition int
	phases     []phase
}

// colors tell the systems apart, for the colour-blind as well.
func color(system string) string {
	switch system {
	case onSQLite:
		return "#0b5cad"
	case onEtcd:
		return "#3d8b57"
	}
	return "#c4581a"
}

func systemTitle(system string) string {
	switch system {
	case onSQLite:
		return "Skiff"
	case onEtcd:
		return "Skiff, etcd"
	}
	return system
}

// graphs draws the first repetition, by the name of the file.
func graphs(all []measured) map[string][]byte {
	first := slices.DeleteFunc(slices.Clone(all), func(m measured) bool { return m.repetition > 0 })
	return map[string][]byte{
		"benchmarks-memory.svg": memoryGraph(first).SVG(),
		"benchmarks-cpu.svg":    cpuGraph(first).SVG(),
	}
}

func memoryGraph(systems []measured) graph.Graph {
	g := graph.Graph{Title: "Memory over time", Unit: "MiB, proportional set size"}
	for _, m := range systems {
		g.Curves = append(g.Curves,
			graph.Curve{Name: systemTitle(m.system) + ", anonymous", Color: color(m.system)},
			graph.Curve{Name: systemTitle(m.system) + ", with file pages", Color: color(m.system), Dashed: true})
	}
	for _, name := range phaseNames(systems) {
		p := graph.Panel{Name: phaseTitle(name)}
		for _, m := range systems {
			looks := m.samples(name)
			p.Lines = append(p.Lines,
				points(looks, func(s sample) float64 { return s.Anonymous }),
				points(looks, func(s sample) float64 { return s.Anonymous + s.File }))
		}
		g.Panels = append(g.Panels, p)
	}
	return g
}

func cpuGraph(systems []measured) graph.Graph {
	g := graph.Graph{Title: "CPU over time, and its mean in each phase", Unit: "% of a core"}
	for _, m := range systems {
		g.Curves = append(g.Curves, graph.Curve{Name: systemTitle(m.system), Color: color(m.system)})
	}
	for _, name := range phaseNames(systems) {
		p := graph.Panel{Name: phaseTitle(name)}
		for _, m := range systems {
			looks := m.samples(name)
			p.Lines = append(p.Lines, points(looks, func(s sample) float64 { return s.CPU }))
			p.Notes = append(p.Notes, fmt.Sprintf("mean %s %%", number(phase{Samples: looks}.mean(), len(looks) > 0)))
		}
		g.Panels = append(g.Panels, p)
	}
	return g
}

// phaseNames are those of all systems that anything was seen of, in their order,
// but for the one that is not on its default settings.
func phaseNames(systems []measured) []string {
	var names []string
	for _, m := range systems {
		for _, p := range m.phases {
			if p.Name != "clients" && len(p.Samples) > 1 && !slices.Contains(names, p.Name) {
				names = append(names, p.Name)
			}
		}
	}
	return names
}

func phaseTitle(name string) string {
	if name == "api" {
		return "API"
	}
	return name
}

func (m measured) samples(phase string) []sample {
	for _, p := range m.phases {
		if p.Name == phase {
			return p.Samples
		}
	}
	return nil
}

func points(looks []sample, value func(sample) float64) []graph.Point {
	var all []graph.Point
	for _, look := range looks {
		all = append(all, graph.Point{Seconds: look.At.Seconds(), Value: value(look)})
	}
	return all
}
