package scenarios

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// appendEnv makes the test's program one that appends lines to a file, on a node of
// the lab: LOCK FILE NODE LINES.
const appendEnv = "QUORATE_TEST_APPEND"

// The kinds of lock under which it does.
const (
	lockOFD   = "ofd"   // the whole file, and written at the size that fstat tells
	lockFlock = "flock" // and written with O_APPEND
)

// lineOf is a line of a node's, without its end. Their lengths differ, so that they
// lie over the borders of blocks.
func lineOf(node string, n int) string {
	return fmt.Sprintf("%s %d %s.", node, n, strings.Repeat(string(rune('a'+n%26)), n%89))
}

func appendLines(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("arguments %q", args)
	}
	lines, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	flags := os.O_RDWR
	if args[0] == lockFlock {
		flags |= os.O_APPEND
	}
	f, err := os.OpenFile(args[1], flags, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for n := range lines {
		line := []byte(lineOf(args[2], n) + "\n")
		if args[0] == lockFlock {
			err = underFlock(f, line)
		} else {
			err = underOFD(f, line)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return nil
}

func underFlock(f *os.File, line []byte) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	if _, err := f.Write(line); err != nil {
		return err
	}
	return unix.Flock(int(f.Fd()), unix.LOCK_UN)
}

func underOFD(f *os.File, line []byte) error {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLKW, &lock); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(line, info.Size()); err != nil {
		return err
	}
	lock.Type = unix.F_UNLCK
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
}
