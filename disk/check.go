package disk

import "fmt"

// CheckRange tells whether n bytes at off lie within the device on whole
// blocks. Every Device calls it before it touches anything; its error names
// the device and the rule that was broken.
func CheckRange(info Info, off int64, n int) error {
	bs := int64(info.BlockSize)
	switch {
	case bs <= 0:
		return fmt.Errorf("%s: the device says that its block size is %d bytes; nothing can be read or written", info.URL, bs)
	case off < 0 || off%bs != 0 || int64(n)%bs != 0:
		return fmt.Errorf("%s: %d bytes at %d do not lie on whole blocks of %d bytes", info.URL, n, off, bs)
	case int64(n) > info.Size || off > info.Size-int64(n):
		return fmt.Errorf("%s: %d bytes at %d lie beyond the device's end at %d", info.URL, n, off, info.Size)
	}
	return nil
}
