package link

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"google.golang.org/protobuf/proto"
)

// A frame is the length of what follows the checksum (4 bytes, little endian), its CRC-32C (4), and a message.
const frameHead = 8

// Bounds in bytes. A frame is cut off when it is full; a single message may be larger.
const (
	maxHello  = 4 << 10
	fullFrame = 1 << 20
	maxFrame  = 64 << 20
	// What a frame announces is believed only this far before it arrives.
	readAhead = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errFrame = errors.New("malformed frame")

// frames reads and writes frames. Reading and writing may go on at the same time.
type frames struct {
	r  *bufio.Reader
	w  io.Writer
	b  []byte // what is written
	in []byte
}

func newFrames(c io.ReadWriter) *frames { return &frames{r: bufio.NewReaderSize(c, 64<<10), w: c} }

// write sends a message in one write.
func (f *frames) write(m proto.Message) error {
	var err error
	f.b = append(f.b[:0], make([]byte, frameHead)...)
	if f.b, err = (proto.MarshalOptions{}).MarshalAppend(f.b, m); err != nil {
		return err
	}
	body := f.b[frameHead:]
	if len(body) > maxFrame {
		return errFrame
	}
	binary.LittleEndian.PutUint32(f.b, uint32(len(body)))
	binary.LittleEndian.PutUint32(f.b[4:], crc32.Checksum(body, castagnoli))
	_, err = f.w.Write(f.b)
	if cap(f.b) > 2*fullFrame {
		f.b = nil
	}
	return err
}

// read waits for a message of at most so many bytes. After an error, nothing that follows can be read.
func (f *frames) read(m proto.Message, most int) error {
	var head [frameHead]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return err
	}
	n := int(binary.LittleEndian.Uint32(head[:]))
	if n > most {
		return errFrame
	}
	f.in = f.in[:0]
	for len(f.in) < n {
		k := min(n-len(f.in), readAhead)
		at := len(f.in)
		f.in = append(f.in, make([]byte, k)...)
		if _, err := io.ReadFull(f.r, f.in[at:]); err != nil {
			return err
		}
	}
	if crc32.Checksum(f.in, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return errFrame
	}
	err := proto.Unmarshal(f.in, m)
	if cap(f.in) > 2*fullFrame {
		f.in = nil
	}
	return err
}
