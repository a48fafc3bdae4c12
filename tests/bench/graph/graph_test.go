package graph

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func example() Graph {
	return Graph{
		Title: "Memory & more", Unit: "MiB",
		Curves: []Curve{{Name: "one", Color: "#00f"}, {Name: "two", Color: "#f00", Dashed: true}},
		Panels: []Panel{
			{Name: "start", Lines: [][]Point{{{0, 0}, {1, 90}, {3, 100}}, {{0, 0}, {9, 205}}}, Notes: []string{"mean 80", ""}},
			{Name: "idle", Lines: [][]Point{{{0, 100}, {180, 100}}, nil}},
		},
	}
}

// texts reads a picture as a viewer does and gives the words in it.
func texts(t *testing.T, svg []byte) (words []string, lines int) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(svg)))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return words, lines
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		switch token := token.(type) {
		case xml.CharData:
			if text := strings.TrimSpace(string(token)); text != "" {
				words = append(words, text)
			}
		case xml.StartElement:
			if token.Name.Local == "polyline" {
				lines++
			}
		}
	}
}

func TestAPictureNamesEverythingInIt(t *testing.T) {
	words, lines := texts(t, example().SVG())
	for _, want := range []string{"Memory & more", "MiB", "one", "two", "start", "idle", "mean 80", "0", "50", "250", "150"} {
		if !slices.Contains(words, want) {
			t.Errorf("%q is not among %q", want, words)
		}
	}
	if lines != 3 {
		t.Errorf("%d lines are drawn", lines)
	}
}

func TestShortPhasesStayReadable(t *testing.T) {
	w := example().widths()
	if w[0] < 100 || w[1] < 2*w[0] {
		t.Errorf("9 s and 180 s get %.0f and %.0f pixels", w[0], w[1])
	}
	if sum := w[0] + w[1] + gap + left + right; sum < width-1 || sum > width+1 {
		t.Errorf("the picture is %.0f pixels wide", sum)
	}
}

func TestTicksAreRound(t *testing.T) {
	tests := []struct {
		limit float64
		n     int
		want  []float64
	}{
		{9, 3, []float64{0, 5}},
		{200, 5, []float64{0, 50, 100, 150, 200}},
		{0.7, 4, []float64{0, 0.2, 0.4, 0.6}},
		{0, 4, []float64{0}},
	}
	for _, tt := range tests {
		got, _ := ticks(tt.limit, tt.n)
		if !slices.EqualFunc(got, tt.want, func(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 }) {
			t.Errorf("up to %v: %v, want %v", tt.limit, got, tt.want)
		}
	}
}

func TestThinningKeepsPeaks(t *testing.T) {
	var line []Point
	for i := range 1000 {
		line = append(line, Point{float64(i), 1})
	}
	line[500].Value, line[700].Value = 99, -5
	got := thin(line, 10)
	if len(got) > 202 {
		t.Errorf("%d of 1000 points are left", len(got))
	}
	if !slices.Contains(got, Point{500, 99}) || !slices.Contains(got, Point{700, -5}) {
		t.Error("a peak is lost")
	}
}
