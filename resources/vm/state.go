package vm

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// stateMagic begins a state, and has its version.
const stateMagic = "quorate saved state 1\n"

// stateSuffix ends the name of a state's file.
const stateSuffix = ".state"

// ErrState says that a file is not the saved state that it should be.
var ErrState = errors.New("vm: the saved state cannot be used")

// StateInfo is by what a saved state is known again.
type StateInfo struct {
	Size int64 // bytes
	// CRC32C is of the whole file (Castagnoli's polynomial, RFC 3720, B.4).
	CRC32C uint32
}

// stateHeader is what a state needs beside QEMU's part.
type stateHeader struct {
	// Settings are those that the machine ran by: it goes on by them, and what was
	// changed since counts from its next start on.
	Settings Settings `yaml:"settings"`
	Accel    Accel    `yaml:"accel"`
	QEMU     string   `yaml:"qemu"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// StatePath is the file for save id of the machine in folder.
func StatePath(folder string, id uint64) string {
	return filepath.Join(folder, "saved-"+strconv.FormatUint(id, 10)+stateSuffix)
}

// ClearStates removes the states of a machine that are of no use, which crashes have left:
// those of saves up to last, without keep.
func ClearStates(folder string, keep, last uint64) error {
	files, err := filepath.Glob(filepath.Join(folder, "saved-*"+stateSuffix))
	if err != nil {
		return fmt.Errorf("vm: %w", err)
	}
	var errs []error
	for _, f := range files {
		number := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), "saved-"), stateSuffix)
		if id, err := strconv.ParseUint(number, 10, 64); err != nil || id == keep || id > last {
			continue
		}
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("vm: %w", err))
		}
	}
	return errors.Join(errs...)
}

// UseUp removes a state, durably, so that nobody can use it again. Of two that try one
// gets nil.
func UseUp(path string) error {
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("vm: using up a saved state: %w", err)
	}
	return syncPath(filepath.Dir(path))
}

// sum is the size and the checksum of what was added.
type sum struct {
	n   int64
	crc uint32
}

func (s *sum) add(b []byte) { s.n, s.crc = s.n+int64(len(b)), crc32.Update(s.crc, castagnoli, b) }
