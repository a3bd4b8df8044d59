package e2e

import (
	"flag"
	"testing"
	"time"

	"github.com/wattlehq/wattle/node"
)

var mainjobFull = flag.Bool("mainjob.full", false, "the main job under pressure over the whole standard library")

// The main job with bounds so tight that everything happens which otherwise only happens under pressure: records are spilled and
// merged, the log is trimmed and replayed after a kill, blobs are collected; and the counts are exact.
func TestMainJobUnderPressure(t *testing.T) {
	t.Parallel()
	dir := goFiles("net")
	cfg := node.Config{ShuffleBytes: 64 << 10, TrimEntries: 4, Shards: 1, CollectInterval: 200 * time.Millisecond, PinTTL: 100 * time.Millisecond}
	split := "200000"
	if *mainjobFull {
		dir = goFiles("")
		cfg.ShuffleBytes, cfg.TrimEntries = 1<<20, 100
		split = "1000000"
	}
	cfg.AllowDirs = []string{dir}
	n := asBinary(t, cfg)
	n.pushPlugin("wordcount")
	spec := map[string]string{"dir": dir, "split": split}
	job := n.submit(wordcountSpec, spec)
	n.complete(job.Id)
	// More jobs until the log has grown past its bound.
	for i := 0; n.metric("wattle_log_trimmed_total") == 0; i++ {
		if i > 1000 {
			t.Fatal("the log was never trimmed")
		}
		n.complete(n.submit("{name: noise, stages: [{name: a, function: wordcount/map, items: [a b c, d e f, g h i, j k l]}]}", nil).Id)
	}
	if v := n.metric("wattle_shuffle_spills_total"); v == 0 {
		t.Error("nothing was spilled")
	}
	if v := n.metric("wattle_shuffle_merges_total"); v <= float64(job.Stages[1].Tasks) {
		t.Errorf("%v merges: no runs were merged", v)
	}
	sameCounts(t, n.counts(job.Id, "total"), countWords(t, dir))
	// What the job's stages passed to each other is no longer needed.
	deadline := time.After(time.Minute)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for n.metric("wattle_blobs_collected_total") == 0 {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("no blob was collected")
		}
	}
	n.kill()
	n = n.again()
	if v := n.metric("wattle_log_replayed_total"); v == 0 {
		t.Error("nothing was replayed after the kill")
	}
	sameCounts(t, n.counts(job.Id, "total"), countWords(t, dir))
}
