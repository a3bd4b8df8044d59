package shuffle

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// A sorted stream is written in frames, so that damage and truncation of a file or a transfer never look like data
// or like its end:
//
//	frame: length (4, little endian) | CRC-32C of the bytes (4) | bytes
//	end:   0 (4) | CRC-32C of all the frames' checksums (4)
const (
	frameHead = 8
	maxFrame  = 64 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errDamaged = errors.New("the bytes are not what was written")

// frameWriter cuts what is written into frames.
type frameWriter struct {
	w    io.Writer
	buf  []byte
	size int
	sum  uint32
	n    int64
}

func newFrameWriter(w io.Writer, size int) *frameWriter {
	return &frameWriter{w: w, size: size, buf: make([]byte, frameHead, frameHead+size)}
}

func (f *frameWriter) Write(p []byte) (int, error) {
	n := len(p)
	for {
		room := f.size + frameHead - len(f.buf)
		if len(p) <= room {
			f.buf = append(f.buf, p...)
			return n, nil
		}
		f.buf = append(f.buf, p[:room]...)
		p = p[room:]
		if err := f.flush(); err != nil {
			return 0, err
		}
	}
}

func (f *frameWriter) flush() error {
	data := f.buf[frameHead:]
	if len(data) == 0 {
		return nil
	}
	sum := crc32.Checksum(data, castagnoli)
	f.chain(sum)
	return f.put(uint32(len(data)), sum)
}

func (f *frameWriter) put(length, sum uint32) error {
	binary.LittleEndian.PutUint32(f.buf, length)
	binary.LittleEndian.PutUint32(f.buf[4:], sum)
	f.n += int64(len(f.buf))
	_, err := f.w.Write(f.buf)
	f.buf = f.buf[:frameHead]
	return err
}

func (f *frameWriter) chain(sum uint32) { f.sum = chain(f.sum, sum) }

func chain(all, sum uint32) uint32 {
	return crc32.Update(all, castagnoli, binary.LittleEndian.AppendUint32(nil, sum))
}

// end writes what is left and the end, and makes the writer ready for another stream.
func (f *frameWriter) end() error {
	if err := f.flush(); err != nil {
		return err
	}
	sum := f.sum
	f.sum = 0
	return f.put(0, sum)
}

// frameReader gives the frames of one stream.
type frameReader struct {
	r   io.Reader
	sum uint32
}

// next appends the next frame to buf, or answers io.EOF at the end of the stream. It reads nothing beyond that.
func (f *frameReader) next(buf []byte) ([]byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return buf, truncated(err)
	}
	length, sum := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint32(head[4:])
	if length == 0 {
		if sum != f.sum {
			return buf, errDamaged
		}
		return buf, io.EOF
	}
	if length > maxFrame {
		return buf, errDamaged
	}
	n := len(buf)
	if need := n + int(length); cap(buf) < need {
		grown := make([]byte, n, need)
		copy(grown, buf)
		buf = grown
	}
	buf = buf[:n+int(length)]
	if _, err := io.ReadFull(f.r, buf[n:]); err != nil {
		return buf[:n], truncated(err)
	}
	if crc32.Checksum(buf[n:], castagnoli) != sum {
		return buf[:n], errDamaged
	}
	f.sum = chain(f.sum, sum)
	return buf, nil
}

// truncated tells an early end from a failure to read.
func truncated(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
