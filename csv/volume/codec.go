package volume

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// Sizes of the format, in bytes.
const (
	// BlockSize is the unit of allocation, and of what is known to be written.
	BlockSize = 64 << 10
	// metaAlign is what metadata is padded to; it is a multiple of every
	// device's block size.
	metaAlign = 4 << 10
	// headerSize is the size of the header of every metadata block.
	headerSize = 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errCorrupt is the cause of every failed checksum or impossible field.
var errCorrupt = errors.New("metadata is corrupt")

func isCorrupt(err error) bool { return errors.Is(err, errCorrupt) }

// Kinds of metadata block.
const (
	kindLabel uint32 = 0x4c425631 + iota
	kindRoot
	kindIndex
	kindLeaf
	kindRecord
	kindWrap
)

const magic = "QUORACSV"

// UUID identifies a volume.
type UUID [16]byte

// header starts every metadata block: magic, kind, volume, two numbers whose
// meaning depends on the kind, the length of what follows, and a checksum over
// header and content.
type header struct {
	kind   uint32
	volume UUID
	a, b   uint64
	length uint32
}

// seal returns header and body as one block, padded to metaAlign.
func seal(h header, body []byte) []byte {
	h.length = uint32(len(body))
	buf := make([]byte, alignUp(headerSize+len(body), metaAlign))
	copy(buf, magic)
	binary.LittleEndian.PutUint32(buf[8:], h.kind)
	copy(buf[12:], h.volume[:])
	binary.LittleEndian.PutUint64(buf[28:], h.a)
	binary.LittleEndian.PutUint64(buf[36:], h.b)
	binary.LittleEndian.PutUint32(buf[44:], h.length)
	copy(buf[headerSize:], body)
	binary.LittleEndian.PutUint32(buf[48:], checksum(buf[:headerSize+len(body)]))
	return buf
}

// unsealHeader reads the header only; the content is checked by unseal.
func unsealHeader(buf []byte) (header, bool) {
	if len(buf) < headerSize || string(buf[:8]) != magic {
		return header{}, false
	}
	h := header{
		kind:   binary.LittleEndian.Uint32(buf[8:]),
		a:      binary.LittleEndian.Uint64(buf[28:]),
		b:      binary.LittleEndian.Uint64(buf[36:]),
		length: binary.LittleEndian.Uint32(buf[44:]),
	}
	copy(h.volume[:], buf[12:])
	return h, true
}

// unseal checks a block and returns its content, which aliases buf.
func unseal(buf []byte) (header, []byte, error) {
	h, ok := unsealHeader(buf)
	if !ok || int64(h.length) > int64(len(buf)-headerSize) {
		return header{}, nil, errCorrupt
	}
	all := buf[:headerSize+int(h.length)]
	if binary.LittleEndian.Uint32(buf[48:]) != checksum(all) {
		return header{}, nil, errCorrupt
	}
	return h, all[headerSize:], nil
}

// checksum is CRC-32C over b with the checksum's own field taken as zero.
func checksum(b []byte) uint32 {
	c := crc32.Update(0, castagnoli, b[:48])
	c = crc32.Update(c, castagnoli, []byte{0, 0, 0, 0})
	return crc32.Update(c, castagnoli, b[52:])
}

func alignUp(n, to int) int { return (n + to - 1) / to * to }

// decoder reads a metadata block's content. After the first fault everything it
// returns is zero, and err is set.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n < 0 || n > len(d.b) {
		d.err = errCorrupt
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) u8() uint8 {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if p := d.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if p := d.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (d *decoder) bytes() []byte {
	n, w := binary.Uvarint(d.b)
	if w <= 0 || n > uint64(len(d.b)) {
		d.err = errCorrupt
		return nil
	}
	d.take(w)
	return d.take(int(n))
}

func putBytes(b, s []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func putString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func putU32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }
func putU64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }
