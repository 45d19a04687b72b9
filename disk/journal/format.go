package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// On the device, little-endian.
//
//	header:  magic 8, version 4, crc 4, seq 8, owner length 1, owner 64
//	record:  magic 4, crc 4, seq 8, index 8, length 4, reserved 12, payload
//
// The checksum (CRC-32C) covers everything behind itself, the payload included.
const (
	headerMagic   = "QRTJRNL1"
	headerVersion = 1
	recordMagic   = 0x31435251 // "QRC1"
	ownerSize     = 64
	headerUsed    = 8 + 4 + 4 + 8 + 1 + ownerSize
)

func encodeHeader(seq uint64, owner string) []byte {
	b := make([]byte, blockSize)
	copy(b, headerMagic)
	binary.LittleEndian.PutUint32(b[8:], headerVersion)
	binary.LittleEndian.PutUint64(b[16:], seq)
	b[24] = byte(len(owner))
	copy(b[25:], owner)
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[16:headerUsed], castagnoli))
	return b
}

func decodeHeader(b []byte) (seq uint64, owner string, ok bool) {
	if !bytes.Equal(b[:8], []byte(headerMagic)) || binary.LittleEndian.Uint32(b[8:]) != headerVersion ||
		binary.LittleEndian.Uint32(b[12:]) != crc32.Checksum(b[16:headerUsed], castagnoli) || int(b[24]) > ownerSize {
		return 0, "", false
	}
	return binary.LittleEndian.Uint64(b[16:]), string(b[25:][:b[24]]), true
}

// encode appends a record to buf, in whole blocks.
func encode(buf, payload []byte, seq, index uint64) []byte {
	size := (recordHeader + len(payload) + blockSize - 1) / blockSize * blockSize
	at := len(buf)
	buf = slices.Grow(buf, size)[:at+size]
	b := buf[at:]
	clear(b[:recordHeader])
	clear(b[recordHeader+len(payload):])
	binary.LittleEndian.PutUint32(b, recordMagic)
	binary.LittleEndian.PutUint64(b[8:], seq)
	binary.LittleEndian.PutUint64(b[16:], index)
	binary.LittleEndian.PutUint32(b[24:], uint32(len(payload)))
	copy(b[recordHeader:], payload)
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:recordHeader+len(payload)], castagnoli))
	return buf
}

// areaReader reads the live area through a buffer.
type areaReader struct {
	j   *Journal
	ctx context.Context
	buf []byte
	at  int64 // where buf begins in the area
}

// bytes returns [pos, pos+n) of the area; both are whole blocks.
func (r *areaReader) bytes(pos int64, n int) ([]byte, error) {
	if pos >= r.at && pos+int64(n) <= r.at+int64(len(r.buf)) {
		return r.buf[pos-r.at:][:n], nil
	}
	size := min(max(int64(n), readChunk), r.j.areaSize()-pos)
	buf := make([]byte, size)
	if err := r.j.dev.ReadAt(r.ctx, buf, r.j.areaOffset(r.j.seq)+pos); err != nil {
		return nil, err
	}
	r.buf, r.at = buf, pos
	return buf[:n], nil
}

// header reads a record's header at pos; ok is false where there is none of
// this incarnation of the area.
func (r *areaReader) header(pos int64) (length int64, index uint64, crc uint32, ok bool, err error) {
	if pos+blockSize > r.j.areaSize() {
		return 0, 0, 0, false, nil
	}
	b, err := r.bytes(pos, blockSize)
	if err != nil {
		return 0, 0, 0, false, err
	}
	if binary.LittleEndian.Uint32(b) != recordMagic || binary.LittleEndian.Uint64(b[8:]) != r.j.seq {
		return 0, 0, 0, false, nil
	}
	return int64(binary.LittleEndian.Uint32(b[24:])), binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint32(b[4:]), true, nil
}

// record reads the record with the given index at pos, and how many bytes it
// takes; ok is false where it is not there whole.
func (r *areaReader) record(pos int64, index uint64) (payload []byte, size int64, ok bool, err error) {
	length, got, crc, ok, err := r.header(pos)
	if err != nil || !ok || got != index {
		return nil, 0, false, err
	}
	size = (recordHeader + length + blockSize - 1) / blockSize * blockSize
	if pos+size > r.j.areaSize() {
		return nil, 0, false, nil
	}
	b, err := r.bytes(pos, int(size))
	if err != nil {
		return nil, 0, false, err
	}
	if crc32.Checksum(b[8:recordHeader+length], castagnoli) != crc {
		return nil, 0, false, nil
	}
	return bytes.Clone(b[recordHeader:][:length]), size, true, nil
}
