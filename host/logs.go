package host

import (
	"bytes"
	"fmt"
	"strings"
)

// Level says how much a log line matters.
type Level uint8

// The levels.
const (
	LevelDebug Level = iota
	LevelInfo
	LevelWarn
	LevelError
)

func (l Level) String() string {
	switch l {
	case LevelDebug:
		return "debug"
	case LevelInfo:
		return "info"
	case LevelWarn:
		return "warn"
	}
	return "error"
}

// logger hands a guest's lines to the caller, up to a limit.
type logger struct {
	sink  func(Level, string)
	limit uint64
	used  uint64
	full  bool
}

func (l *logger) line(level Level, text []byte) {
	if l.full {
		return
	}
	// Each line costs one more byte, so that empty ones are not free.
	left := l.limit - l.used
	if uint64(len(text))+1 > left {
		l.full = true
		if l.sink != nil {
			l.sink(LevelWarn, fmt.Sprintf("the log reached its limit of %d bytes; further lines are dropped", l.limit))
		}
		return
	}
	l.used += uint64(len(text)) + 1
	if l.sink != nil {
		l.sink(level, strings.ToValidUTF8(string(text), "\uFFFD"))
	}
}

// maxLine splits what a guest prints without line ends.
const maxLine = 16 << 10

// printed splits what a guest prints on stdout or stderr into log lines.
type printed struct {
	level Level
	to    *logger
	also  *tail   // may be nil
	in    *string // running.in
	part  []byte
	cost  func(int) // running.charge
}

func (p *printed) Write(b []byte) (int, error) {
	n := len(b)
	p.cost(500 + n)
	*p.in = "log"
	p.split(b)
	*p.in = ""
	return n, nil
}

func (p *printed) split(b []byte) {
	if p.also != nil {
		p.also.write(b)
	}
	for len(b) > 0 {
		if i := bytes.IndexByte(b[:min(len(b), maxLine)], '\n'); i >= 0 && len(p.part) == 0 {
			p.to.line(p.level, b[:i])
			b = b[i+1:]
			continue
		}
		take := min(len(b), maxLine-len(p.part))
		end := bytes.IndexByte(b[:take], '\n')
		if end >= 0 {
			take = end
		}
		p.part = append(p.part, b[:take]...)
		b = b[take:]
		if end >= 0 {
			b = b[1:]
		}
		if end >= 0 || len(p.part) == maxLine {
			p.flush()
		}
	}
}

func (p *printed) flush() {
	if len(p.part) > 0 {
		p.to.line(p.level, p.part)
		p.part = p.part[:0]
	}
}

const (
	tailSize = 4 << 10
	headSize = 1 << 10
)

// tail keeps what matters of stderr when a guest dies: the words of a panic, else the last lines.
type tail struct {
	last  []byte
	panic []byte // from the line that announces it on
	found bool
}

var announcements = []string{"panic: ", "fatal error: ", "thread '", "runtime: out of memory", "Assertion failed"}

func (t *tail) write(b []byte) {
	if t.found {
		t.panic = append(t.panic, b[:min(len(b), headSize-len(t.panic))]...)
		return
	}
	if len(b) > tailSize {
		b = b[len(b)-tailSize:]
	}
	t.last = append(t.last, b...)
	for _, a := range announcements {
		for from := 0; ; {
			i := bytes.Index(t.last[from:], []byte(a))
			if i < 0 {
				break
			}
			if i += from; i == 0 || t.last[i-1] == '\n' {
				t.found = true
				t.panic = append(t.panic, t.last[i:min(len(t.last), i+headSize)]...)
				return
			}
			from = i + 1
		}
	}
	if len(t.last) > 2*tailSize {
		t.last = append(t.last[:0], t.last[len(t.last)-tailSize:]...)
	}
}

func (t *tail) reset() { t.last, t.panic, t.found = t.last[:0], t.panic[:0], false }

// words is the panic's text up to the first empty line, else the last lines; trimmed and in valid UTF-8.
func (t *tail) words() string {
	b := t.last
	if t.found {
		b, _, _ = bytes.Cut(t.panic, []byte("\n\n"))
		b, _, _ = bytes.Cut(b, []byte("\ngoroutine "))
	} else if len(b) > headSize {
		b = b[len(b)-headSize:]
	}
	return strings.ToValidUTF8(strings.TrimSpace(string(b)), "\uFFFD")
}
