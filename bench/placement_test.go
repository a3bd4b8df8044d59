package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/wattlehq/wattle/node/controller"
)

// A model comes to rest, and what moved is what had to.
func TestFleet(t *testing.T) {
	t.Parallel()
	got := map[string]float64{}
	if err := measure(10, 100, func(what string, v float64) { got[what] = v }); err != nil {
		t.Fatal(err)
	}
	for _, e := range []string{"one joins", "one is lost"} {
		if moved := got[e+" moved"]; moved < 20 || moved > got[e+" fair"] || got[e+" moves"] < 2*moved {
			t.Errorf("%s: %v", e, got)
		}
	}
	f := newModel(10, 100)
	if _, err := f.settle(controller.Limits); err != nil {
		t.Fatal(err)
	}
	held := f.lose(3)
	if _, err := f.settle(controller.Limits); err != nil {
		t.Fatal(err)
	}
	for _, s := range f.shards {
		voters, leads := 0, false
		for _, m := range s.Members {
			if m.Node == f.members[3].ID || !m.Voter {
				t.Errorf("shard %d: %v", s.Shard, m)
			}
			voters++
			leads = leads || m.Replica == s.Replica
		}
		if voters != 3 || !leads || held == 0 {
			t.Errorf("shard %d has %d voters, leader among them: %v; %d were lost", s.Shard, voters, leads, held)
		}
	}
}

func TestPlot(t *testing.T) {
	t.Parallel()
	s := series{name: "line", mark: '*', color: "red"}
	s.add(10, 1)
	s.add(100, 10)
	s.add(1000, 100)
	p := plot{title: "A line", x: "nodes", y: "ms", series: []series{s}}
	lines := strings.Split(p.text(), "\n")
	for line, want := range map[int]string{
		2: "     100 +" + strings.Repeat(" ", 64) + "*", 7: "      10 +" + strings.Repeat(" ", 32) + "*", 12: "       1 +*",
		14: "          10" + strings.Repeat(" ", 30) + "100" + strings.Repeat(" ", 29) + "1000 nodes",
	} {
		if line >= len(lines) || lines[line] != want {
			t.Errorf("line %d is not %q:\n%s", line, want, p.text())
		}
	}
	d := xml.NewDecoder(strings.NewReader(string(p.svg())))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(string(p.svg()), "<circle"); n != 3 {
		t.Errorf("%d points", n)
	}
}
