package main

import (
	"strings"
	"testing"
)

func TestProgressNamesTestsThatEnd(t *testing.T) {
	const output = `SSSSS
------------------------------
• [4.090 seconds]
[sig-storage] ConfigMap should be consumable [NodeConformance] [Conformance] [sig-storage, NodeConformance, Conformance]
k8s.io/kubernetes@v1.36.4/test/e2e/common/storage/configmap_volume.go:47

  Timeline >>
  STEP: Creating a kubernetes client @ 11/21/26 09:45:51.625
------------------------------
• [FAILED] [30.090 seconds]
[sig-apps] Daemon set [Serial] [It] should roll back [Conformance] [sig-apps, Serial, Conformance]
------------------------------
[sig-apps] Daemon set [Serial] should run alone [Conformance] [sig-apps, Serial, Conformance]
  STEP: Creating a kubernetes client @ 11/21/26 09:45:51.625
• [5.090 seconds]
------------------------------
`
	var got strings.Builder
	p := &progress{out: &got}
	for _, piece := range strings.SplitAfter(output, "o") { // as pipes cut it
		if _, err := p.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Split(strings.TrimSpace(got.String()), "\n")
	want := []string{
		"1 passed  [sig-storage] ConfigMap should be consumable [NodeConformance] [Conformance]",
		"2 failed  [sig-apps] Daemon set [Serial] [It] should roll back [Conformance]",
		"3 passed  [sig-apps] Daemon set [Serial] should run alone [Conformance]",
	}
	if len(lines) != len(want) {
		t.Fatalf("printed %q, want %d lines", lines, len(want))
	}
	for i := range want {
		if !strings.HasSuffix(lines[i], want[i]) {
			t.Errorf("line %d is %q, want it to end with %q", i, lines[i], want[i])
		}
	}
}
