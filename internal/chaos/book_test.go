package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// book is what clients were told.
type book struct {
	mu       sync.Mutex
	jobs     []*job
	versions map[uint64]string // the stamps of acknowledged ones
	aliases  []*alias
	none     map[string]int // requests without an answer, by what they were for
	again    int
	seen     map[string]int // finished jobs that were compared, by kind
	moves    int
	took     []time.Duration // by jobs, until they were acknowledged
}

// alias was moved again and again, until a move was not answered.
type alias struct {
	name  string
	told  uint64 // the last acknowledged move, or zero
	maybe uint64 // one that was not answered, or zero
}

func newBook() *book {
	return &book{versions: map[uint64]string{}, none: map[string]int{}, seen: map[string]int{}}
}

func (b *book) newAlias() *alias {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := &alias{name: fmt.Sprintf("alias-%d", len(b.aliases)+1)}
	b.aliases = append(b.aliases, a)
	return a
}

func (b *book) moved(a *alias, to uint64, answered bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !answered {
		a.maybe = to
		return
	}
	a.told = to
	b.moves++
}

// pushed notes a version, and returns what was acknowledged under its number before if that is something else.
func (b *book) pushed(number uint64, stamp string) (other string, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if other, taken := b.versions[number]; taken && other != stamp {
		return other, false
	}
	b.versions[number] = stamp
	return "", true
}

func (b *book) unanswered(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.none[what]++
}

// taken notes a job that was acknowledged so long after it was first handed over.
func (b *book) taken(j *job, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.took = append(b.took, took)
	b.jobs = append(b.jobs, j)
}

func (b *book) compared(kind string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen[kind]++
}

func (b *book) resubmitted() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.again++
}

func (b *book) all() (jobs []*job, versions map[uint64]string, aliases []*alias) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.jobs), maps.Clone(b.versions), slices.Clone(b.aliases)
}

func (b *book) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	counts := func(m map[string]int) string {
		var out []string
		for _, k := range slices.Sorted(maps.Keys(m)) {
			out = append(out, fmt.Sprintf("%s %d", k, m[k]))
		}
		return strings.Join(out, ", ")
	}
	took := quantiles(b.took, 0.5, 0.99, 1)
	return fmt.Sprintf("acknowledged: %d jobs (half within %s, 99%% within %s, all within %s of the first try; results compared: %s), %d submitted again, %d versions, %d moves of %d aliases; without an answer: %s",
		len(b.jobs), took[0], took[1], took[2], counts(b.seen), b.again, len(b.versions), b.moves, len(b.aliases), counts(b.none))
}

// quantiles sorts times and returns those below which shares of them lie.
func quantiles(all []time.Duration, shares ...float64) (at []time.Duration) {
	slices.Sort(all)
	for _, q := range shares {
		var d time.Duration
		if len(all) > 0 {
			d = all[int(q*float64(len(all)-1))].Round(10 * time.Microsecond)
		}
		at = append(at, d)
	}
	return at
}
