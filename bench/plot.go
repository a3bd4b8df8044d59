package main

import (
	"fmt"
	"math"
	"strings"
)

// plot shows series with logarithms on both axes.
type plot struct {
	title, x, y string
	series      []series
}

// series are points of one colour.
type series struct {
	name   string
	mark   byte
	color  string
	xs, ys []float64
}

func (s *series) add(x, y float64) { s.xs, s.ys = append(s.xs, x), append(s.ys, y) }

// axis is a range of whole decades.
type axis struct{ from, to int }

// decades returns the axis that the values need.
func decades(values func(series) []float64, all []series) axis {
	low, high := math.Inf(1), math.Inf(-1)
	for _, s := range all {
		for _, v := range values(s) {
			low, high = min(low, v), max(high, v)
		}
	}
	a := axis{int(math.Floor(math.Log10(low))), int(math.Ceil(math.Log10(high)))}
	if a.from == a.to {
		a.to++
	}
	return a
}

// at places a value between 0 and 1.
func (a axis) at(v float64) float64 {
	return (math.Log10(v) - float64(a.from)) / float64(a.to-a.from)
}

func (p plot) axes() (x, y axis) {
	return decades(func(s series) []float64 { return s.xs }, p.series), decades(func(s series) []float64 { return s.ys }, p.series)
}

func power(e int) string { return fmt.Sprintf("%g", math.Pow10(e)) }

// text draws it with characters.
func (p plot) text() string {
	const perDecade, width = 5, 64
	x, y := p.axes()
	height := perDecade * (y.to - y.from)
	grid := make([][]byte, height+1)
	for i := range grid {
		grid[i] = []byte(strings.Repeat(" ", width+1))
	}
	for _, s := range p.series {
		for i := range s.xs {
			grid[height-int(math.Round(y.at(s.ys[i])*float64(height)))][int(math.Round(x.at(s.xs[i])*width))] = s.mark
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s (%s)\n", p.title, p.y)
	for i, line := range grid {
		label, edge := "", "|"
		if (height-i)%perDecade == 0 {
			label, edge = power(y.from+(height-i)/perDecade), "+"
		}
		fmt.Fprintf(&b, "%8s %s%s\n", label, edge, strings.TrimRight(string(line), " "))
	}
	scale := []byte(strings.Repeat("-", width+1))
	labels := []byte(strings.Repeat(" ", width+10))
	for e := x.from; e <= x.to; e++ {
		at := int(math.Round(x.at(math.Pow10(e)) * width))
		scale[at] = '+'
		copy(labels[at:], power(e))
	}
	fmt.Fprintf(&b, "%8s +%s\n%9s %s %s\n", "", scale, "", strings.TrimRight(string(labels), " "), p.x)
	for _, s := range p.series {
		fmt.Fprintf(&b, "%10s%c %s\n", "", s.mark, s.name)
	}
	return b.String() + "\n"
}

// svg draws it for a page.
func (p plot) svg() []byte {
	const width, height, left, top, bottom = 640, 400, 60, 40, 60
	x, y := p.axes()
	px := func(v float64) float64 { return left + x.at(v)*(width-left-20) }
	py := func(v float64) float64 { return height - bottom - y.at(v)*(height-top-bottom) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/><text x="%d" y="20" font-size="14">%s (%s)</text>`+"\n", width, height, left, p.title, p.y)
	for e := x.from; e <= x.to; e++ {
		at := px(math.Pow10(e))
		fmt.Fprintf(&b, `<path d="M%.1f %d V%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", at, top, height-bottom, at, height-bottom+16, power(e))
	}
	for e := y.from; e <= y.to; e++ {
		at := py(math.Pow10(e))
		fmt.Fprintf(&b, `<path d="M%d %.1f H%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", left, at, width-20, left-6, at+4, power(e))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", width-20, height-bottom+32, p.x)
	for i, s := range p.series {
		path := "M"
		for j := range s.xs {
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", px(s.xs[j]), py(s.ys[j]), s.color)
			path += fmt.Sprintf(" %.1f %.1f", px(s.xs[j]), py(s.ys[j]))
		}
		fmt.Fprintf(&b, `<path d="%s" stroke="%s" fill="none"/><text x="%d" y="%d" fill="%s">%s</text>`+"\n", path, s.color, left, height-bottom+32+16*i, s.color, s.name)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}
