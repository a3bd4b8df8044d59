package guest

import (
	"bytes"
	"io"
	"iter"
)

// Part is a piece of a file, cut where a line ends. It is valid while the mapper it was given to runs.
type Part struct {
	// Name is the file's name.
	Name string
	// Offset is where the part begins in the file, in bytes.
	Offset int64
	// Header is the first line of the file, without its line end, where the job says that files have one.
	Header string

	in   *input
	left uint64 // bytes of the part's data not read yet
	err  error
}

// Len is how many bytes are left to read.
func (p *Part) Len() int64 { return int64(p.left) }

// Read implements io.Reader.
func (p *Part) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	block := p.block(len(b))
	if block == nil {
		if p.err != nil {
			return 0, p.err
		}
		return 0, io.EOF
	}
	return copy(b, block), nil
}

// block answers up to most bytes, valid until the next read, and nil at the end.
func (p *Part) block(most int) []byte {
	if p.left == 0 || p.err != nil {
		return nil
	}
	if !p.in.fill(1) {
		p.err = errCut
		return nil
	}
	n := min(uint64(p.in.w-p.in.r), p.left, uint64(most))
	b := p.in.buf[p.in.r : p.in.r+int(n)]
	p.use(int(n))
	return b
}

// Blocks yields the part's bytes in large pieces, cut anywhere. A piece is valid until the next one, and may be changed. It is the fastest
// way to read a part.
func (p *Part) Blocks() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for b := p.block(blockSize); b != nil; b = p.block(blockSize) {
			if !yield(b) {
				return
			}
		}
	}
}

// Lines yields the part's lines without their ends ("\n" or "\r\n"). A line is valid until the next one.
func (p *Part) Lines() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var kept []byte // the start of a line that goes on in the next block
		for p.left > 0 && p.err == nil {
			if !p.in.fill(1) {
				p.err = errCut
				return
			}
			b := p.in.buf[p.in.r:min(p.in.w, p.in.r+int(min(p.left, blockSize)))]
			end := bytes.IndexByte(b, '\n')
			if end < 0 {
				kept = append(kept, b...)
				p.use(len(b))
				continue
			}
			line := b[:end]
			p.use(end + 1)
			if len(kept) > 0 {
				kept = append(kept, line...)
				line, kept = kept, kept[:0]
			}
			if n := len(line); n > 0 && line[n-1] == '\r' {
				line = line[:n-1]
			}
			if !yield(line) {
				return
			}
		}
		if len(kept) > 0 && p.err == nil {
			yield(kept)
		}
	}
}

// use consumes n bytes that are in the buffer.
func (p *Part) use(n int) {
	p.in.r += n
	p.left -= uint64(n)
}

// nextPart reads the start of a part, nil at the end of the input.
func (in *input) nextPart() (*Part, error) {
	n, ok, err := in.uvarint()
	if err != nil || !ok {
		return nil, err
	}
	name, err := in.next(n)
	if err != nil {
		return nil, err
	}
	p := &Part{Name: string(name), in: in}
	off, _, err := in.uvarint()
	if err != nil {
		return nil, err
	}
	p.Offset = int64(off)
	header, err := in.counted()
	if err != nil {
		return nil, err
	}
	p.Header = string(header)
	p.left, ok, err = in.uvarint()
	if err == nil && !ok {
		err = errCut
	}
	return p, err
}
