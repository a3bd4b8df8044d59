package jobs

import (
	"context"
	"encoding/binary"
	"io"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
)

// A part as the ABI describes it, to be read.
type part struct {
	name   string
	offset int64
	header []byte
	length int64
	data   io.Reader
	close  func() error
}

// parts reads parts as a split: each is opened when the one before it has been read, so that a split of a thousand files
// needs one at a time.
type parts struct {
	next func() (*part, error) // io.EOF after the last
	cur  *part
	r    io.Reader
	err  error
}

func (p *parts) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil // reading nothing gets nowhere, for ever
	}
	for p.err == nil {
		if p.r == nil {
			if p.cur, p.err = p.next(); p.err != nil {
				break
			}
			p.r = io.MultiReader(&prefix{b: p.cur.prefix()}, io.LimitReader(p.cur.data, p.cur.length))
		}
		n, err := p.r.Read(b)
		if err == io.EOF {
			p.r, err = nil, p.cur.close()
		}
		if n > 0 || err != nil {
			p.err = err
			return n, err
		}
	}
	return 0, p.err
}

// Close closes the part that was being read.
func (p *parts) Close() error {
	if p.r == nil || p.cur == nil {
		return nil
	}
	p.r = nil
	return p.cur.close()
}

func (p *part) prefix() []byte {
	b := binary.AppendUvarint(nil, uint64(len(p.name)))
	b = append(b, p.name...)
	b = binary.AppendUvarint(b, uint64(p.offset))
	b = binary.AppendUvarint(b, uint64(len(p.header)))
	b = append(b, p.header...)
	return binary.AppendUvarint(b, uint64(p.length))
}

type prefix struct{ b []byte }

func (p *prefix) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.b)
	p.b = p.b[n:]
	return n, nil
}

// fileParts reads the parts of a split that a node planned.
func (in *Inputs) fileParts(ctx context.Context, s *storev1.Split, node string) *parts {
	rest := s.Parts
	return &parts{next: func() (*part, error) {
		if len(rest) == 0 {
			return nil, io.EOF
		}
		p := rest[0]
		rest = rest[1:]
		o, err := in.open(ctx, p, node)
		if err != nil {
			return nil, err
		}
		return &part{
			name: p.Name, offset: o.from, header: o.header, length: o.length,
			data: io.NewSectionReader(o.file, o.from, o.length), close: o.file.Close,
		}, nil
	}}
}
