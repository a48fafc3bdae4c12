package main

import (
	"strings"
	"testing"
	"time"
)

func seen(system string, repetition int) measured {
	return measured{system, repetition, []phase{
		{"start", []sample{{time.Second, memory{10, 20}, 150}, {3 * time.Second, memory{30, 20}, 30}}},
		{"sizes", nil},
	}}
}

func TestTheMeanOfAPhaseWeighsEachLookByItsTime(t *testing.T) {
	if mean := seen("skiff", 0).phases[0].mean(); mean != 70 {
		t.Errorf("150 %% for a second and 30 %% for two are %v %%", mean)
	}
	if mean := (phase{}).mean(); mean != 0 {
		t.Errorf("nothing is %v %%", mean)
	}
}

func TestGraphsShowTheFirstRepetitionOfBothSystems(t *testing.T) {
	all := graphs([]measured{seen("skiff", 0), seen("stock", 0), seen("stock", 1), seen("skiff", 1)})
	for name, lines := range map[string]int{"benchmarks-memory.svg": 4, "benchmarks-cpu.svg": 2} {
		picture := string(all[name])
		if n := strings.Count(picture, "<polyline"); n != lines {
			t.Errorf("%s has %d lines, want %d", name, n, lines)
		}
		for _, word := range []string{"Skiff", "stock", ">start<"} {
			if !strings.Contains(picture, word) {
				t.Errorf("%s does not mention %s", name, word)
			}
		}
		if strings.Contains(picture, "sizes") {
			t.Errorf("%s shows a phase of which nothing was seen", name)
		}
	}
	if !strings.Contains(string(all["benchmarks-cpu.svg"]), "mean 70.0 %") {
		t.Error("the CPU graph has no means")
	}
}
