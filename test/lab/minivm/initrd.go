package minivm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Initrd is what a RAM disk is made of.
type Initrd struct {
	// Modules are loaded, with what they depend on, before the script runs.
	Modules []string
	// Files are put at the paths; all are executable.
	Files map[string][]byte
	// Script is the body of a busybox shell script, with /proc, /sys and /dev
	// mounted.
	Script string
}

// prologue is what runs before the script.
const prologue = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /var /mnt /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for m in $(cat /modules/order); do insmod /modules/$m || echo "no module $m"; done
`

// Write makes the RAM disk at path.
func (k Kernel) Write(path string, in Initrd) error {
	bb, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("install busybox-static: %w", err)
	}
	busybox, err := os.ReadFile(bb)
	if err != nil {
		return err
	}
	a := &archive{}
	for _, d := range []string{"bin", "modules", "dev"} {
		a.add(d, 0o040755, nil)
	}
	a.device("dev/console", 5, 1)
	a.add("bin/busybox", 0o100755, busybox)
	a.add("init", 0o100755, []byte(prologue+in.Script+"\npoweroff -f\n"))
	for name, data := range in.Files {
		a.add(name, 0o100755, data)
	}
	modules, err := k.resolve(in.Modules)
	if err != nil {
		return err
	}
	var order bytes.Buffer
	for i, m := range modules {
		data, err := os.ReadFile(m)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%02d-%s", i, filepath.Base(m))
		a.add("modules/"+name, 0o100644, data)
		fmt.Fprintln(&order, name)
	}
	a.add("modules/order", 0o100644, order.Bytes())
	if err := os.WriteFile(path+".new", a.end(), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// archive is a cpio archive in the "newc" format, as the kernel reads it.
type archive struct {
	b     bytes.Buffer
	inode int
}

func (a *archive) add(name string, mode int, data []byte) { a.entry(name, mode, data, 0, 0) }

func (a *archive) device(name string, major, minor int) { a.entry(name, 0o020600, nil, major, minor) }

func (a *archive) entry(name string, mode int, data []byte, major, minor int) {
	a.inode++
	fmt.Fprintf(&a.b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0)
	a.b.WriteString(name)
	a.b.WriteByte(0)
	a.pad()
	a.b.Write(data)
	a.pad()
}

func (a *archive) pad() {
	for a.b.Len()%4 != 0 {
		a.b.WriteByte(0)
	}
}

func (a *archive) end() []byte {
	a.inode = 0
	a.entry("TRAILER!!!", 0, nil, 0, 0)
	return a.b.Bytes()
}
