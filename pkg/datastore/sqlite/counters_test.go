package sqlite

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// gathered reads the metrics as a scrape does, by name and connection.
func gathered(t *testing.T, d *Datastore) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	for _, c := range d.Metrics() {
		if err := r.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			all[name] = m.GetCounter().GetValue()
		}
	}
	return all
}

func TestStatementsAreCounted(t *testing.T) {
	d := start(t, t.TempDir())
	before := gathered(t, d.store)
	if _, err := d.Put(t.Context(), "/registry/a", "1"); err != nil {
		t.Fatal(err)
	}
	written := gathered(t, d.store)
	// BEGIN, the newest row of the key, INSERT, COMMIT.
	if n := written["skiff_datastore_sql_statements_total writer"] - before["skiff_datastore_sql_statements_total writer"]; n != 4 {
		t.Errorf("a write took %v statements", n)
	}
	if n := written["skiff_datastore_commits_total"] - before["skiff_datastore_commits_total"]; n != 1 {
		t.Errorf("a write took %v commits", n)
	}
	if _, err := d.Get(t.Context(), "/registry/a"); err != nil {
		t.Fatal(err)
	}
	read := gathered(t, d.store)
	if n := read["skiff_datastore_sql_statements_total reader"] - written["skiff_datastore_sql_statements_total reader"]; n != 1 {
		t.Errorf("a read took %v statements", n)
	}
	if read["skiff_datastore_sql_statements_total writer"] != written["skiff_datastore_sql_statements_total writer"] {
		t.Error("a read was run by the writer")
	}
}
