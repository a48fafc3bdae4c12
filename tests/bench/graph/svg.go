package graph

import (
	"fmt"
	"html"
	"strings"
)

const head = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="13" fill="#222">
<title>%s</title>
<rect width="100%%" height="100%%" fill="#fff"/>
<text x="%d" y="26" font-size="17" font-weight="600">%[3]s</text>
`

// SVG draws the picture. The same graph gives the same bytes.
func (g Graph) SVG() []byte {
	var b strings.Builder
	notes := 0
	for _, p := range g.Panels {
		notes = max(notes, len(p.Notes))
	}
	total := height - 2*noteHeight + noteHeight*notes
	fmt.Fprintf(&b, head, width, total, html.EscapeString(g.Title), left)
	g.legend(&b)
	values, step := ticks(g.highest()*1.05, 6)
	plot := area{y: top, height: height - top - bottom, limit: values[len(values)-1]}
	if g.highest() > plot.limit {
		plot.limit += step
		values = append(values, plot.limit)
	}
	g.valueAxis(&b, plot, values)
	plot.x = left
	for i, w := range g.widths() {
		plot.width = w
		g.panel(&b, g.Panels[i], plot, values)
		plot.x += w + gap
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle" fill="#555">seconds since the beginning of each phase</text>`+"\n", (left+width-right)/2, height-bottom+40)
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// area is where a panel's lines are drawn, in pixels, and the value at its top.
type area struct{ x, y, width, height, limit float64 }

func (a area) at(p Point, duration float64) (x, y float64) {
	return a.x + a.width*p.Seconds/duration, a.y + a.height*(1-p.Value/a.limit)
}

func (g Graph) legend(b *strings.Builder) {
	x := float64(left)
	for _, c := range g.Curves {
		fmt.Fprintf(b, `<line x1="%.0f" y1="45" x2="%.0f" y2="45" %s/><text x="%.0f" y="49">%s</text>`+"\n",
			x, x+26, c.stroke(), x+32, html.EscapeString(c.Name))
		x += 32 + 6.7*float64(len(c.Name)) + 28
	}
}

func (c Curve) stroke() string {
	if c.Dashed {
		return fmt.Sprintf(`fill="none" stroke="%s" stroke-width="1.3" stroke-dasharray="4 3"`, c.Color)
	}
	return fmt.Sprintf(`fill="none" stroke="%s" stroke-width="1.8" stroke-linejoin="round"`, c.Color)
}

func (g Graph) valueAxis(b *strings.Builder, a area, values []float64) {
	for _, v := range values {
		_, y := a.at(Point{0, v}, 1)
		fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="end" fill="#555">%g</text>`+"\n", left-8, y+4.5, v)
	}
	middle := a.y + a.height/2
	fmt.Fprintf(b, `<text transform="translate(16 %.0f) rotate(-90)" text-anchor="middle" fill="#555">%s</text>`+"\n", middle, html.EscapeString(g.Unit))
}

func (g Graph) panel(b *strings.Builder, p Panel, a area, values []float64) {
	fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#f6f7f9"/>`+"\n", a.x, a.y, a.width, a.height)
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="middle" font-weight="600">%s</text>`+"\n", a.x+a.width/2, a.y-8, html.EscapeString(p.Name))
	for _, v := range values {
		_, y := a.at(Point{0, v}, 1)
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#d8dbe0"/>`+"\n", a.x, y, a.x+a.width, y)
	}
	duration := p.duration()
	p.timeAxis(b, a, duration)
	for i, line := range p.Lines {
		if len(line) == 0 {
			continue
		}
		fmt.Fprintf(b, `<polyline %s points="`, g.Curves[i].stroke())
		for j, point := range thin(line, duration/a.width) {
			if j > 0 {
				b.WriteByte(' ')
			}
			x, y := a.at(point, duration)
			fmt.Fprintf(b, "%.1f,%.1f", x, y)
		}
		b.WriteString(`"/>` + "\n")
	}
	for i, note := range p.Notes {
		if note != "" {
			fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle" font-size="12" fill="%s">%s</text>`+"\n",
				a.x+a.width/2, height-bottom+62+noteHeight*i, g.Curves[i].Color, html.EscapeString(note))
		}
	}
}

// timeAxis marks round seconds, as many as there is room for.
func (p Panel) timeAxis(b *strings.Builder, a area, duration float64) {
	all, _ := ticks(duration, max(1, int(a.width/48)))
	bottom := a.y + a.height
	for _, t := range all {
		x, _ := a.at(Point{t, 0}, duration)
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#888"/><text x="%.1f" y="%.1f" text-anchor="middle" fill="#555" font-size="12">%g</text>`+"\n",
			x, bottom, x, bottom+4, x, bottom+18, t)
	}
}
