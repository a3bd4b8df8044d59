package e2e

import (
	"net/http"
	"strconv"
	"strings"
)

// metric returns the value of a metric without labels.
func (n *target) metric(name string) float64 {
	n.t.Helper()
	res, err := http.Get(n.url("/metrics"))
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(body(n.t, res)) {
		if k, v, _ := strings.Cut(strings.TrimSpace(line), " "); k == name {
			f, err := strconv.ParseFloat(v, 64)
			if err != nil {
				n.t.Fatal(err)
			}
			return f
		}
	}
	n.t.Fatalf("no metric %s", name)
	return 0
}
