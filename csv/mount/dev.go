package mount

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Inherited is what is left of a mount whose process is gone, or is about to go.
type Inherited struct {
	// Dev is the kernel's end: /dev/fuse, as it was opened for the mount.
	Dev *os.File
	// Init is the kernel's first message, as Mount.Init returned it.
	Init []byte
	// Turn counts the processes that have served the mount; the first was 0.
	Turn uint32
	// Handles are the files that were open.
	Handles map[uint64]Opened
}

// Opened is an open file of an earlier process.
type Opened struct {
	Ino    uint64
	Origin uint64 // the kernel's request that opened it
	Owners map[uint64]bool
}

// Keep is where handles are noted that must outlive the process.
type Keep interface {
	Opened(fh, ino, origin uint64)
	Closed(fh uint64)
	// Owner notes that locks of an owner go with a handle.
	Owner(fh, owner uint64)
}

// noKeep is where there is none.
type noKeep struct{}

func (noKeep) Opened(uint64, uint64, uint64) {}
func (noKeep) Closed(uint64)                 {}
func (noKeep) Owner(uint64, uint64)          {}

// readSize is what the kernel wants a read to have room for (fuse_dev_do_read).
const readSize = maxWrite + 64<<10

// attach mounts, and reads the kernel's first message, which must be FUSE_INIT.
func attach(o Options) (*os.File, []byte, error) {
	if err := os.MkdirAll(o.Path, 0o755); err != nil {
		return nil, nil, err
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open /dev/fuse: %w", err)
	}
	dev := os.NewFile(uintptr(fd), "/dev/fuse")
	options := strings.Join([]string{
		fmt.Sprintf("fd=%d", fd), fmt.Sprintf("rootmode=%o", syscall.S_IFDIR), fmt.Sprintf("user_id=%d", os.Geteuid()),
		fmt.Sprintf("group_id=%d", os.Getegid()), fmt.Sprintf("max_read=%d", maxWrite), "default_permissions", "allow_other",
	}, ",")
	if err := unix.Mount(o.Name, o.Path, "fuse.quorate", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return nil, nil, errors.Join(err, dev.Close())
	}
	b := make([]byte, readSize)
	n, err := unix.Read(fd, b)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Read(fd, b)
	}
	if err != nil {
		_ = unix.Unmount(o.Path, unix.MNT_DETACH|unix.MNT_FORCE)
		return nil, nil, errors.Join(fmt.Errorf("read the kernel's first request: %w", err), dev.Close())
	}
	return dev, b[:n], nil
}

// serve starts a server: it is shown the kernel's first message over a pair of sockets,
// of which one end is then replaced by the kernel's. The answer reaches the kernel where
// it is the first.
func (m *Mount) serve(o Options) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(pair[0]) }()
	if _, err := unix.Write(pair[0], m.init); err != nil {
		return errors.Join(err, unix.Close(pair[1]))
	}
	fs := newFileSystem(o)
	m.server, err = fuse.NewServer(fs, fmt.Sprintf("/dev/fd/%d", pair[1]), &fuse.MountOptions{
		Name: "quorate", FsName: o.Name, MaxWrite: maxWrite, MaxBackground: maxBackground, EnableLocks: true,
		// What is read lies in memory: go-fuse would begin each answer in a pipe, and give that up.
		DisableSplice:     true,
		ExtraCapabilities: fuse.CAP_ASYNC_DIO | fuse.CAP_PARALLEL_DIROPS, Logger: log.New(zapWriter{o.Log}, "", 0),
	})
	if err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, err := unix.Read(pair[0], answer)
	if err == nil && o.Inherited == nil {
		_, err = m.dev.Write(answer[:n])
	}
	if err == nil {
		err = unix.Dup3(int(m.dev.Fd()), pair[1], unix.O_CLOEXEC)
	}
	if err != nil {
		return fmt.Errorf("begin to serve: %w", err)
	}
	m.served.Go(m.server.Serve)
	return nil
}

// Dev is the kernel's end. It is used to keep it open elsewhere.
func (m *Mount) Dev() *os.File { return m.dev }

// Init is the kernel's first message.
func (m *Mount) Init() []byte { return m.init }

// Offsets in FUSE_INIT (struct fuse_in_header, then struct fuse_init_in).
const (
	initFlags  = 40 + 12
	initFlags2 = 40 + 16
)

// CanResend tells whether the kernel can be made to ask again for what was under way
// when a process was killed (FUSE_NOTIFY_RESEND, Linux 6.9).
func (m *Mount) CanResend() bool {
	if len(m.init) < initFlags2+4 {
		return false
	}
	flags := uint64(binary.NativeEndian.Uint32(m.init[initFlags:])) | uint64(binary.NativeEndian.Uint32(m.init[initFlags2:]))<<32
	return flags&fuse.CAP_HAS_RESEND != 0
}

// notifyResend is FUSE_NOTIFY_RESEND.
const notifyResend = 7

// Resend makes the kernel ask again for what it has no answer to. The process that was
// asked before must be gone, and what it wrote over.
func (m *Mount) Resend() error {
	b := make([]byte, 16) // struct fuse_out_header
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint32(b[4:], notifyResend)
	if _, err := m.dev.Write(b); err != nil {
		return fmt.Errorf("ask the kernel to ask again: %w", err)
	}
	return nil
}
