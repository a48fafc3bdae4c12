package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// value is one number that was measured.
type value struct {
	ID     string // path-like, the same for all systems
	Title  string
	Unit   string
	Number float64
}

type recorder func(value)

// line holds what was measured under one ID.
type line struct {
	ID     string               `json:"id"`
	Title  string               `json:"title"`
	Unit   string               `json:"unit"`
	Values map[string][]float64 `json:"values"` // by system, one per repetition
}

// results is everything measured in a run, in the order in which it came.
type results struct {
	Commit  string    `json:"commit"`
	Begun   time.Time `json:"begun"`
	Machine machine   `json:"machine"`
	// Others is the CPU time of what else ran on the machine, in % of a core, for
	// each measured system in the order of the run.
	Others []float64 `json:"others"`
	Lines  []*line   `json:"lines"`

	Repetitions int    `json:"repetitions"`
	Idle        string `json:"idle"`
	Settle      string `json:"settle"`

	seen []measured // one for each system and repetition, for the graphs
	dir  string
	// added says that an earlier run's results are continued.
	added bool
}

func newResults(o options) *results {
	return &results{
		Commit: o.commit, Begun: time.Now().UTC().Truncate(time.Second), Machine: describe(),
		Repetitions: o.repetitions, Idle: o.idle.String(), Settle: o.settle.String(), dir: o.results,
	}
}

// openResults begins results, or goes on with those of an earlier run of the
// same commit, whose graphs then stay.
func openResults(o options) (*results, error) {
	r := newResults(o)
	if !o.add {
		return r, nil
	}
	path := filepath.Join(o.results, "results.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the results to add to: %w", err)
	}
	before := &results{dir: o.results, added: true}
	if err := json.Unmarshal(data, before); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if before.Commit != o.commit {
		return nil, fmt.Errorf("%s is of commit %s and this program of %s: leave out -add", path, before.Commit, o.commit)
	}
	return before, nil
}

func (r *results) add(system string, v value) {
	i := slices.IndexFunc(r.Lines, func(l *line) bool { return l.ID == v.ID })
	if i < 0 {
		i = len(r.Lines)
		r.Lines = append(r.Lines, &line{v.ID, v.Title, v.Unit, map[string][]float64{}})
	}
	l := r.Lines[i]
	l.Values[system] = append(l.Values[system], v.Number)
}

// median is the middle value, the lower one of two.
func (l *line) median(system string) (float64, bool) {
	all := slices.Sorted(slices.Values(l.Values[system]))
	if len(all) == 0 {
		return 0, false
	}
	return all[(len(all)-1)/2], true
}

// write writes results.json, table.md, the graphs and what they are made of.
func (r *results) write() error {
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	if !r.added {
		files = graphs(r.seen)
		files["samples.csv"] = []byte(samplesTable(r.seen))
	}
	files["results.json"] = append(data, '\n')
	files["table.md"] = []byte(r.table())
	for name, content := range files {
		path := filepath.Join(r.dir, name)
		if err := os.WriteFile(path+".new", content, 0o644); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}
