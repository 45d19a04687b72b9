package vm

import (
	"fmt"
	"strings"
)

// cpuModels are the names of Quorate for sets of features that QEMU 7.2 has no
// name for.
var cpuModels = map[string]string{
	// The second level of the x86-64 ABI, and AES.
	"x86-64-v2": "qemu64,+aes,+cx16,+lahf-lm,+popcnt,+pni,+sse4.1,+sse4.2,+ssse3",
	// The third, and AES.
	"x86-64-v3": "qemu64,+abm,+aes,+avx,+avx2,+bmi1,+bmi2,+cx16,+f16c,+fma,+lahf-lm,+movbe,+popcnt,+pni,+sse4.1,+sse4.2,+ssse3,+xsave",
}

// invocation is everything that a command line depends on.
type invocation struct {
	settings Settings
	folder   string
	paths    paths
	accel    Accel
	taps     []string // one for each network
	incoming bool
}

// escape doubles commas, which part QEMU's options.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// args is the command line without the binary. A machine always starts paused.
func (v invocation) args() []string {
	s, p := v.settings, v.paths
	a := []string{
		"-name", "guest=" + s.Name + ",debug-threads=on",
		"-uuid", s.UUID,
		"-nodefaults", "-no-user-config", "-S", "-pidfile", p.pidFile(), "-msg", "timestamp=on",
		"-machine", s.MachineType, "-accel", v.accelOption(), "-cpu", v.cpu(),
		"-m", fmt.Sprintf("size=%dM", s.MemoryMiB), "-smp", fmt.Sprintf("cpus=%d", s.CPUs),
		"-rtc", "base=utc", "-boot", "menu=off,strict=on",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-chardev", "socket,id=qmp,server=on,wait=off,path=" + escape(p.qmp()), "-mon", "chardev=qmp,mode=control",
		"-chardev", "socket,id=qmp-spare,server=on,wait=off,path=" + escape(p.qmpSpare()), "-mon", "chardev=qmp-spare,mode=control",
		"-chardev", "socket,id=console,server=on,wait=off,logappend=on,path=" + escape(p.console()) + ",logfile=" + escape(p.consoleLog()),
		"-device", "isa-serial,chardev=console",
		"-display", "none", "-vga", "std", "-vnc", "unix:" + escape(p.vnc()),
		"-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
	}
	if v.incoming {
		a = append(a, "-incoming", "defer")
	}
	a = append(a, v.diskArgs()...)
	for i, n := range s.Networks {
		a = append(a, "-netdev", fmt.Sprintf("tap,id=net%d,ifname=%s,script=no,downscript=no", i, v.taps[i]),
			"-device", fmt.Sprintf("virtio-net-pci,netdev=net%d,mac=%s", i, n.MAC))
	}
	if s.Kernel != "" {
		a = append(a, "-kernel", resolve(v.folder, s.Kernel))
		if s.Initrd != "" {
			a = append(a, "-initrd", resolve(v.folder, s.Initrd))
		}
		if s.Append != "" {
			a = append(a, "-append", s.Append)
		}
	}
	return a
}

// diskArgs are the disks and the medium. Disks bypass the host's cache, are
// locked against a second writer, and pause the machine at an error rather than
// show it to the guest.
func (v invocation) diskArgs() []string {
	var a []string
	for i, d := range v.settings.Disks {
		id := fmt.Sprintf("disk%d", i)
		a = append(a,
			"-blockdev", fmt.Sprintf("driver=file,node-name=%s-file,aio=threads,locking=on,cache.direct=on,filename=%s", id, escape(resolve(v.folder, d.Path))),
			"-blockdev", fmt.Sprintf("driver=%s,node-name=%s,file=%s-file,cache.direct=on", d.Format, id, id),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=%s,bootindex=%d,werror=stop,rerror=stop", id, i+1))
	}
	if iso := v.settings.ISO; iso != "" {
		a = append(a,
			"-blockdev", "driver=file,node-name=iso,read-only=on,filename="+escape(resolve(v.folder, iso)),
			"-device", fmt.Sprintf("ide-cd,bus=ide.0,drive=iso,bootindex=%d", maxDisks+1))
	}
	return a
}

func (v invocation) accelOption() string {
	if v.accel == AccelKVM {
		return "kvm"
	}
	return "tcg,thread=multi"
}

// cpu is QEMU's name of the processor: one of ours may have features switched on and
// off behind it, as QEMU's may.
func (v invocation) cpu() string {
	base, more, _ := strings.Cut(v.settings.CPUModel, ",")
	if model, ok := cpuModels[base]; ok {
		base = model
	}
	if base == "host" && v.accel == AccelTCG {
		base = "max" // QEMU's host exists with KVM alone
	}
	if more != "" {
		base += "," + more
	}
	return base
}
