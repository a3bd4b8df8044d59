//go:build unix

package shard

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wattlehq/wattle/store"
)

// BenchmarkShards is how DefaultShards was chosen: what more shards cost under load and when idle.
//
//	go test ./shard -run '^$' -bench Shards
func BenchmarkShards(b *testing.B) {
	for _, shards := range []uint32{1, 16, 64, 256, 1024} {
		b.Run(fmt.Sprintf("load/%d", shards), func(b *testing.B) {
			n := startNodeIn(b, store.OS, b.TempDir(), "a", []NodeID{"a"}, shards, func(c *Config) { c.Tick = 100 * time.Millisecond })
			<-n.Ready()
			var next atomic.Uint64
			b.SetParallelism(64)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					n.count(b, "key"+strconv.FormatUint(next.Add(1), 10))
				}
			})
			b.ReportMetric(float64(n.Counts().Syncs)/float64(b.N), "syncs/op")
		})
		b.Run(fmt.Sprintf("idle/%d", shards), func(b *testing.B) {
			n := startNodeIn(b, store.OS, b.TempDir(), "a", []NodeID{"a"}, shards, func(c *Config) { c.Tick = 100 * time.Millisecond })
			<-n.Ready()
			begin, cpu := time.Now(), cpuTime()
			timer := time.NewTimer(time.Second)
			<-timer.C
			b.ReportMetric(100*(cpuTime()-cpu).Seconds()/time.Since(begin).Seconds(), "%core")
		})
	}
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
