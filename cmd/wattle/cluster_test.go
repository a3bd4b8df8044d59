package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

// What a shard lacks is shown with the time since when, and what lacks nothing is not shown.
func TestPrintCluster(t *testing.T) {
	t.Parallel()
	ago := timestamppb.New(time.Now().Add(-125 * time.Second))
	replicas := []*wattlev1.Replica{{Node: "n-a", Voter: true, Active: true}, {Node: "n-b", Voter: true}}
	var b strings.Builder
	printCluster(&b, &wattlev1.GetClusterStatusResponse{ClusterId: "c", Want: 2, Silent: []string{"n-b"}, Shards: []*wattlev1.Shard{
		{Id: 0, Leader: "n-a", Live: 2, Voters: 2},
		{Id: 1, Leader: "n-a", Live: 1, Voters: 2, Replicas: replicas, LackingSince: ago},
		{Id: 2, Leader: "n-a", Live: 1, Voters: 2, Replicas: replicas, LackingSince: ago, SinceAtLeast: true},
		{Id: 3},
	}}, false)
	want := []string{
		"cluster c: 4 shards, 3 with a leader, 1 with all of 2 replicas",
		"node n-b does not answer",
		"SHARD LEADER TERM VOTERS LACKING REPLICAS",
		"1 n-a 0 1 of 2 there since 2m ago n-a, n-b (silent)",
		"2 n-a 0 1 of 2 there since 2m ago or longer n-a, n-b (silent)",
		"3 none 0 0 of 0 there -",
	}
	for i, line := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		if got := strings.Join(strings.Fields(line), " "); i >= len(want) || got != want[i] {
			t.Errorf("line %d: %q", i, got)
		}
	}
}

// Of many shards that lack something the worst are shown, and how many there are.
func TestPrintClusterBriefly(t *testing.T) {
	t.Parallel()
	c := &wattlev1.GetClusterStatusResponse{ClusterId: "c", Want: 3}
	for i := range uint32(64) {
		s := &wattlev1.Shard{Id: i, Leader: "n-a", Live: 2, Voters: 3}
		switch i {
		case 40:
			s.Leader = ""
		case 50:
			s.Differs = true
		case 60:
			s.Live = 1
		}
		c.Shards = append(c.Shards, s)
	}
	for all, want := range map[bool]string{true: "SHARD 0 1 2", false: "SHARD 50 40 60 0 1 2 3 4 5 6 54"} {
		var b strings.Builder
		printCluster(&b, c, all)
		var first []string
		for _, line := range strings.Split(strings.TrimSpace(b.String()), "\n")[1:] {
			first = append(first, strings.Fields(line)[0])
		}
		if got := strings.Join(first, " "); !strings.HasPrefix(got, want) || all && len(first) != 65 || !all && got != want {
			t.Errorf("all %v: %s", all, got)
		}
	}
}

// Replicas that differ are shown with what they have, though the shard lacks nothing, and are an error.
func TestReplicasDiffer(t *testing.T) {
	t.Parallel()
	c := &wattlev1.GetClusterStatusResponse{ClusterId: "c", Want: 2, Shards: []*wattlev1.Shard{
		{Id: 6, Leader: "n-a", Live: 2, Voters: 2},
		{Id: 7, Leader: "n-a", Live: 2, Voters: 2, Differs: true, Replicas: []*wattlev1.Replica{
			{Node: "n-a", Voter: true, Active: true, Applied: 9, Hash: 0xa}, {Node: "n-b", Voter: true, Active: true, Applied: 9, Hash: 0xb},
		}},
	}}
	var b strings.Builder
	printCluster(&b, c, false)
	for _, want := range []string{"n-a (DIFFERS: 000000000000000a at entry 9)", "n-b (DIFFERS: 000000000000000b at entry 9)"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, &b)
		}
	}
	if err := differing(c); fault.Reason(err) != "replicas_differ" || !strings.Contains(err.Error(), "shard 7:") {
		t.Error(err)
	}
	c.Shards = c.Shards[:1]
	if err := differing(c); err != nil {
		t.Error(err)
	}
}
