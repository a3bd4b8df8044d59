package main

import (
	"fmt"
	"strings"

	"github.com/schollz/progressbar/v3"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// progress shows how far something is: a bar on a terminal, a line now and then elsewhere, nothing for JSON.
type progress struct {
	a     *app
	what  string
	bar   *progressbar.ProgressBar
	quiet bool
	last  int // tenths told so far
	line  string
	waits string // what was told last of what a stage waits for
}

func (a *app) progress(what string) *progress {
	return &progress{a: a, what: what, quiet: a.output == "json", last: -1}
}

// What is sent within a moment needs no lines about it.
const worthTelling = 16 << 20

func (p *progress) bytes(sent, total int64) {
	if total >= worthTelling || isTerminal(p.a.stderr) {
		p.show(sent, total, p.what, true)
	}
}

func (p *progress) show(at, total int64, what string, bytes bool) {
	if p.quiet || total == 0 {
		return
	}
	if isTerminal(p.a.stderr) {
		if p.bar == nil {
			p.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(p.a.stderr), progressbar.OptionShowBytes(bytes),
				progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(false), progressbar.OptionFullWidth())
		}
		p.bar.ChangeMax64(total)
		p.bar.Describe(what)
		if err := p.bar.Set64(at); err != nil {
			p.quiet = true
		}
		return
	}
	if tenth := int(10 * at / total); tenth > p.last {
		p.last = tenth
		fmt.Fprintf(p.a.stderr, "%s: %d%%\n", what, 10*tenth)
	}
}

// job shows a job's tasks.
func (p *progress) job(j *wattlev1.Job) {
	var at, total int64
	var parts []string
	for _, s := range j.Stages {
		at += int64(s.Completed)
		total += int64(s.Tasks)
		parts = append(parts, fmt.Sprintf("%s %d/%d", s.Name, s.Completed, s.Tasks))
	}
	for _, s := range j.Stages {
		if s.Waiting == "" || s.Waiting == p.waits || p.quiet {
			continue
		}
		p.waits = s.Waiting
		if p.bar != nil {
			_ = p.bar.Clear()
		}
		fmt.Fprintf(p.a.stderr, "%s: stage %s waits: %s\n", p.what, s.Name, plain(s.Waiting))
	}
	if isTerminal(p.a.stderr) {
		p.show(at, total, strings.Join(parts, ", "), false)
		return
	}
	if line := strings.Join(parts, ", "); !p.quiet && total > 0 && int(10*at/total) > p.last && line != p.line {
		p.last, p.line = int(10*at/total), line
		fmt.Fprintf(p.a.stderr, "%s: %s\n", p.what, line)
	}
}

func (p *progress) done() {
	if p.bar != nil {
		p.bar.Finish()
	}
}
