package shuffle

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"syscall"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/store"
)

// scratch is a folder of sorted streams that do not outlive their owner; nothing in it is synced.
type scratch struct {
	fs   store.FS
	dir  string
	next int
	made bool
}

func (s *scratch) create() (string, store.File, error) {
	if s.fs == nil {
		return "", nil, fault.New(fault.Invalid, "no_scratch", "more data than fits needs a folder for scratch files")
	}
	if !s.made {
		// A process that was killed may have left its files under the same name.
		if err := s.fs.RemoveAll(s.dir); err != nil {
			return "", nil, s.err(err)
		}
		s.made = true
		if err := s.fs.MkdirAll(s.dir, 0o755); err != nil {
			return "", nil, s.err(err)
		}
	}
	s.next++
	path := s.fs.PathJoin(s.dir, strconv.Itoa(s.next))
	f, err := s.fs.Create(path, "wattle-scratch")
	return path, f, s.err(err)
}

// write makes a file of what fill writes, framed, and returns its path and size in bytes.
func (s *scratch) write(frame int, fill func(*frameWriter) error) (string, int64, error) {
	path, f, err := s.create()
	if err != nil {
		return "", 0, err
	}
	w := newFrameWriter(diskWriter{f, s}, frame)
	err = fill(w)
	if err == nil {
		err = w.end()
	}
	if cerr := s.err(f.Close()); err == nil {
		err = cerr
	}
	return path, w.n, err
}

// clean removes everything.
func (s *scratch) clean() error {
	if !s.made {
		return nil
	}
	if err := s.fs.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove scratch files: %w", err)
	}
	s.made = false
	return nil
}

// err gives a full disk its kind.
func (s *scratch) err(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.New(fault.Exhausted, "disk_full", "no space left to sort: %w", err).
			Hint("free space on the disk of %s, then try again", s.dir).With("dir", s.dir)
	}
	return err
}

// diskWriter writes to a scratch file.
type diskWriter struct {
	f store.File
	s *scratch
}

func (w diskWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	return n, w.s.err(err)
}

// spool holds framed bytes in memory up to a limit, then in a scratch file.
type spool struct {
	s     *scratch
	limit int
	size  int
	parts [][]byte
	path  string
	file  store.File
}

func (p *spool) Write(b []byte) (int, error) {
	p.size += len(b)
	if p.file == nil && p.size <= p.limit {
		p.parts = append(p.parts, append([]byte(nil), b...))
		return len(b), nil
	}
	if p.file == nil {
		var err error
		if p.path, p.file, err = p.s.create(); err != nil {
			return 0, err
		}
		for _, part := range p.parts {
			if _, err := (diskWriter{p.file, p.s}).Write(part); err != nil {
				return 0, err
			}
		}
		p.parts = nil
	}
	return diskWriter{p.file, p.s}.Write(b)
}

// Read reads what is in memory.
func (p *spool) Read(b []byte) (int, error) {
	if len(p.parts) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.parts[0])
	if p.parts[0] = p.parts[0][n:]; len(p.parts[0]) == 0 {
		p.parts = p.parts[1:]
	}
	return n, nil
}

func (p *spool) close() error {
	if p.file == nil {
		return nil
	}
	return p.s.err(p.file.Close())
}
