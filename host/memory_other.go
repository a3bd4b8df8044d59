//go:build !linux

package host

// newMapped answers nil: the Go heap is used instead.
func newMapped(uint64) region { return nil }

// imageFile does not exist here.
type imageFile struct{}

func (*imageFile) free() {}

func newImage(memory []byte, globals []uint64, _ bool) (*image, error) {
	return portableImage(memory, globals), nil
}
