// Package graph draws values over time as an SVG picture: panels beside each
// other, one for each phase of a run, with one axis of values for all and an
// axis of time for each. It knows nothing of what was measured. The benchmark
// imports it.
package graph

import (
	"cmp"
	"math"
)

// Graph is one picture.
type Graph struct {
	Title string
	// Unit is written along the axis of values, which begins at 0.
	Unit string
	// Panels stand from left to right.
	Panels []Panel
	// Curves are what the legend lists, in its order. Those of panels refer to
	// them by position.
	Curves []Curve
}

// Panel is one phase.
type Panel struct {
	Name string
	// Lines are the curves' points, one slice for each curve of the graph and in
	// the same order; an empty one is not drawn.
	Lines [][]Point
	// Notes are short texts below the panel, in the colours of the curves.
	Notes []string
}

// Curve says how the lines of one name look.
type Curve struct {
	Name  string
	Color string // as CSS has it
	// Dashed lines are thinner, too.
	Dashed bool
}

// Point is a value at a time in seconds since the panel's begin.
type Point struct{ Seconds, Value float64 }

// The picture in pixels; browsers scale it.
const (
	width, height            = 1100, 430
	left, right, top, bottom = 64, 14, 82, 84
	gap                      = 10 // between panels
	noteHeight               = 15
)

// duration is the longest line's, in seconds and at least one.
func (p Panel) duration() float64 {
	longest := 1.0
	for _, line := range p.Lines {
		if n := len(line); n > 0 {
			longest = max(longest, line[n-1].Seconds)
		}
	}
	return longest
}

// widths shares the room among panels: by the square root of their duration, so
// that three seconds beside three minutes can still be read, and none less than
// its name needs.
func (g Graph) widths() []float64 {
	room := float64(width - left - right - gap*(len(g.Panels)-1))
	const least = 62.0
	weights := make([]float64, len(g.Panels))
	sum := 0.0
	for i, p := range g.Panels {
		weights[i] = math.Sqrt(p.duration())
		sum += weights[i]
	}
	rest := room - least*float64(len(g.Panels))
	for i := range weights {
		weights[i] = least + max(0, rest)*weights[i]/sum
	}
	return weights
}

// highest is the largest value of all lines.
func (g Graph) highest() float64 {
	highest := 0.0
	for _, p := range g.Panels {
		for _, line := range p.Lines {
			for _, point := range line {
				highest = max(highest, point.Value)
			}
		}
	}
	return highest
}

// ticks are round numbers from 0 up to limit, at most n+1, and the step
// between them.
func ticks(limit float64, n int) (all []float64, step float64) {
	if limit <= 0 {
		return []float64{0}, 1
	}
	step = math.Pow(10, math.Floor(math.Log10(limit/float64(n))))
	for _, factor := range []float64{1, 2, 5, 10} {
		if limit/(step*factor) <= float64(n) {
			step *= factor
			break
		}
	}
	for i := 0; float64(i)*step <= limit*(1+1e-9); i++ {
		all = append(all, float64(i)*step)
	}
	return all, step
}

// thin keeps, of the points that share a pixel, the lowest and the highest, so
// that peaks stay and the file small.
func thin(line []Point, perPixel float64) []Point {
	if len(line) < 3 || perPixel <= 0 {
		return line
	}
	var kept []Point
	for begin := 0; begin < len(line); {
		end := begin
		pixel := math.Floor(line[begin].Seconds / perPixel)
		for end < len(line) && math.Floor(line[end].Seconds/perPixel) == pixel {
			end++
		}
		kept = append(kept, extremes(line[begin:end])...)
		begin = end
	}
	return kept
}

// extremes are the lowest and the highest of some points, in their order.
func extremes(points []Point) []Point {
	low, high := 0, 0
	for i, p := range points {
		if cmp.Less(p.Value, points[low].Value) {
			low = i
		}
		if cmp.Less(points[high].Value, p.Value) {
			high = i
		}
	}
	if low == high {
		return points[low : low+1]
	}
	return []Point{points[min(low, high)], points[max(low, high)]}
}
