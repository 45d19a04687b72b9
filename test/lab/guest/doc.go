// Package guest makes the machine that the lab runs inside the cluster: a raw
// disk image with Debian's cloud kernel, busybox and a counter, which boots from
// its disk in a few seconds even without KVM, and reads back what it left.
//
// The counter writes a number to the disk every 20 ms and, once the write is
// durable, prints it on the console. So a number on the console was
// acknowledged: ParseConsole says which those are, Verify says what the disk
// holds, and Lost compares the two.
//
// It is called by the lab, the end-to-end tests, the demo and the benches; the
// product knows nothing of it. It installs nothing: what it needs from Debian it
// downloads with apt-get and unpacks beside the image.
//
// The image: a master boot record; at 1 MiB a FAT partition with syslinux,
// kernel and initrd; at 64 MiB the counter's region of 4096 slots of 4 KiB.
// Number n lies in slot n modulo 4096, so the region always holds the latest
// 4096 numbers and a lost write shows as an older number in its slot.
//
// Traps: kernel and modules must come from one package. What is printed on the
// console may have been cut off in the middle of a line by a kill.
package guest
