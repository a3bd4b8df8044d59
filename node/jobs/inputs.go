package jobs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/wattlehq/wattle/dag"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

// Inputs reads the files that jobs may read: what lies below the allowed directories once links are resolved. It implements
// dag.Files and may be used concurrently.
type Inputs struct {
	// Node is this one. Elsewhere opens what another node planned and is not here; nil where there are no others.
	Node      string
	Elsewhere func(ctx context.Context, p *storev1.FilePart, node string) (File, error)

	allowed  []string // absolute, links resolved
	writable []string // for what may be granted to functions
}

// NewInputs returns an Inputs over directories that may be read, and some that may be written to as well. They must exist.
func NewInputs(dirs, writable []string) (_ *Inputs, err error) {
	in := &Inputs{}
	if in.writable, err = existing("--allow-write-dir", writable); err != nil {
		return nil, err
	}
	if in.allowed, err = existing("--allow-dir", dirs); err != nil {
		return nil, err
	}
	in.allowed = append(in.allowed, in.writable...)
	return in, nil
}

func existing(flag string, dirs []string) (out []string, err error) {
	for _, d := range dirs {
		real, err := resolve(d)
		if err != nil {
			return nil, fault.New(fault.Invalid, "bad_allow_dir", "%s %s: %w", flag, d, err).Hint("give a directory that exists")
		}
		if st, err := os.Stat(real); err != nil || !st.IsDir() {
			return nil, fault.New(fault.Invalid, "bad_allow_dir", "%s %s is not a directory", flag, d).Hint("give the directory it is in")
		}
		out = append(out, real)
	}
	return out, nil
}

// Folder answers where a folder really lies that functions may be granted, to read or also to write.
func (in *Inputs) Folder(dir string, write bool) (string, error) {
	real, err := resolve(dir)
	if err != nil || !filepath.IsAbs(dir) {
		return "", fault.New(fault.Invalid, "bad_capabilities", "files: %q is no folder on this node", dir).Hint("give the absolute path of a folder that exists")
	}
	if write && !below(in.writable, real) {
		return "", fault.New(fault.Denied, "forbidden_dir", "files: this node does not let functions write to %s", dir).
			Hint("start it with --allow-write-dir for a directory around it")
	}
	if !in.allows(real) {
		return "", fault.New(fault.Denied, "forbidden_dir", "files: this node does not let functions read %s", dir).
			Hint("start it with --allow-dir for a directory around it")
	}
	if st, err := os.Stat(real); err != nil || !st.IsDir() {
		return "", fault.New(fault.Invalid, "bad_capabilities", "files: %q is no folder on this node", dir).Hint("give the folder that it is in")
	}
	return real, nil
}

func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

func (in *Inputs) allows(real string) bool { return below(in.allowed, real) }

func below(dirs []string, real string) bool {
	for _, a := range dirs {
		if real == a || strings.HasPrefix(real, strings.TrimSuffix(a, string(filepath.Separator))+string(filepath.Separator)) {
			return true
		}
	}
	return false
}

func (in *Inputs) notAllowed(path string) error {
	e := fault.New(fault.Denied, "dir_not_allowed", "this node does not let jobs read %s", path).With("dir", path)
	if len(in.allowed) == 0 {
		return e.Hint("start the node with --allow-dir %s", path)
	}
	return e.Hint("start the node with --allow-dir %s; now it allows %s", path, strings.Join(in.allowed, ", "))
}

// check resolves path and tells whether it may be read. What is not allowed is refused before it is looked at any closer, so
// that nobody learns what exists outside.
func (in *Inputs) check(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fault.New(fault.Invalid, "relative_dir", "%q is not an absolute path", path).
			Hint("the node may run in another directory than you: write the whole path")
	}
	clean := filepath.Clean(path)
	real, err := filepath.EvalSymlinks(clean)
	switch {
	case err != nil && in.allows(clean):
		if errors.Is(err, fs.ErrNotExist) {
			return "", fault.New(fault.NotFound, "unknown_dir", "%s does not exist on this node", path).Hint("check the path")
		}
		return "", fault.New(fault.Invalid, "unreadable_input", "%s cannot be read: %w", path, err).Hint("let the user the node runs as read it")
	case err != nil || !in.allows(real):
		return "", in.notAllowed(path)
	}
	return real, nil
}

// List implements dag.Files. Links to files are followed if they lead to an allowed place; links to directories are not.
func (in *Inputs) List(ctx context.Context, dir, glob string) ([]dag.File, error) {
	if glob == "" {
		glob = "*"
	}
	if !doublestar.ValidatePattern(glob) {
		return nil, fault.New(fault.Invalid, "bad_glob", "%q is not a pattern for file names", glob).
			Hint("for example *.go, or logs/**/*.csv")
	}
	root, err := in.check(dir)
	if err != nil {
		return nil, err
	}
	st, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return nil, fault.New(fault.Invalid, "not_a_dir", "%s is a file", dir).Hint("give its directory, and its name as the glob")
	}
	var files []dag.File
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fault.New(fault.Invalid, "unreadable_input", "%s cannot be read: %w", path, err).
				Hint("let the user the node runs as read it, or choose a glob that leaves it out")
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if d.IsDir() {
			return nil
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		subject := name
		if !strings.Contains(glob, "/") {
			subject = d.Name()
		}
		if ok, err := doublestar.Match(glob, subject); err != nil || !ok {
			return err
		}
		real := path
		if d.Type()&fs.ModeSymlink != 0 {
			if real, err = filepath.EvalSymlinks(path); err != nil {
				return fault.New(fault.Invalid, "unreadable_input", "%s cannot be read: %w", path, err).
					Hint("remove the link, or choose a glob that leaves it out")
			}
			if !in.allows(real) {
				return in.notAllowed(path)
			}
		}
		st, err := os.Stat(real)
		if err != nil {
			return err
		}
		if st.Mode().IsRegular() {
			files = append(files, dag.File{Path: real, Name: name, Size: st.Size(), Modified: st.ModTime()})
		}
		return nil
	})
	return files, err
}

// File is one that is open.
type File interface {
	io.ReaderAt
	io.Closer
}

// openPart is one part of a file, opened: its header and as much of its data as belongs to it.
type openPart struct {
	file   File
	header []byte
	from   int64
	length int64
}

// open opens a part of a file that a node planned, there if not here, and finds where its lines begin and end.
func (in *Inputs) open(ctx context.Context, p *storev1.FilePart, node string) (_ *openPart, err error) {
	f, err := in.OpenHere(p)
	if err != nil && in.Elsewhere != nil && node != "" && node != in.Node {
		f, err = in.Elsewhere(ctx, p, node)
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	o := &openPart{file: f, from: int64(p.Offset), length: int64(p.Length)}
	size := int64(p.FileSize)
	begin := int64(0)
	if p.HeaderLines > 0 {
		if begin, err = afterLines(f, p.Path, 0, int(p.HeaderLines)); err != nil {
			return nil, err
		}
		o.header = make([]byte, begin)
		if _, err := io.ReadFull(io.NewSectionReader(f, 0, begin), o.header); err != nil {
			return nil, err
		}
		o.header = bytes.TrimSuffix(bytes.TrimSuffix(o.header, []byte("\n")), []byte("\r"))
	}
	end := o.from + o.length
	if p.Lines && o.from > 0 {
		if o.from, err = afterLines(f, p.Path, o.from-1, 1); err != nil {
			return nil, err
		}
	}
	if p.Lines && end < size {
		if end, err = afterLines(f, p.Path, end-1, 1); err != nil {
			return nil, err
		}
	}
	o.from = max(o.from, begin)
	o.length = max(end-o.from, 0)
	return o, nil
}

// OpenHere opens a file on this node, and checks that it is the one that was planned.
func (in *Inputs) OpenHere(p *storev1.FilePart) (_ File, err error) {
	real, err := in.check(p.Path)
	if err != nil {
		if fault.KindOf(err) == fault.NotFound {
			return nil, changed(p, "it is gone")
		}
		return nil, err
	}
	// Before it is opened: opening a pipe would wait for somebody to write to it.
	if st, err := os.Lstat(real); err == nil && !st.Mode().IsRegular() {
		return nil, changed(p, "it is not a regular file any more")
	}
	f, err := os.Open(real)
	if err != nil {
		return nil, changed(p, err.Error())
	}
	st, err := f.Stat()
	if err == nil && (real != p.Path || st.Size() != int64(p.FileSize) || st.ModTime().UnixNano() != p.ModifiedAt) {
		err = changed(p, "its size or time differs")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func changed(p *storev1.FilePart, how string) error {
	return fault.New(fault.Precondition, "input_changed", "input file %s is not the one the job was planned with: %s", p.Path, how).
		Hint("submit the job again")
}

// afterLines returns the offset behind the n-th line end at or after from, or the end of the file.
func afterLines(f io.ReaderAt, path string, from int64, n int) (int64, error) {
	r := bufio.NewReaderSize(io.NewSectionReader(f, from, 1<<62), 64<<10)
	at := from
	for n > 0 {
		b, err := r.Peek(1)
		if len(b) > 0 {
			b, err = r.Peek(r.Buffered())
		}
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			b = b[:i+1]
			n--
		}
		at += int64(len(b))
		if _, derr := r.Discard(len(b)); derr != nil {
			return 0, derr
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return at, nil
			}
			return 0, fmt.Errorf("read %s: %w", path, err)
		}
	}
	return at, nil
}
