//go:build !linux

package host

// newMapped answers nil: the Go heap is used instead.
func newMapped(uint64) region { return nil }

// pageFaults are not counted here.
func pageFaults() (uint64, bool) { return 0, false }

// imageFile does not exist here.
type imageFile struct{}

func (*imageFile) free() {}

func newImage(memory []byte, globals []uint64, _ bool) (*image, error) {
	return portableImage(memory, globals), nil
}
