#!/bin/busybox sh
# The lab guest's first process: modules, network, power button, counter.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
for m in /lib/*.ko; do /bin/busybox insmod $m; done

address=
for word in $(/bin/busybox cat /proc/cmdline); do
	case $word in quorate.address=*) address=${word#quorate.address=} ;; esac
done
/bin/busybox ip link set lo up
if [ -e /sys/class/net/eth0 ]; then
	/bin/busybox ip link set eth0 up
	if [ -n "$address" ]; then
		/bin/busybox ip addr add $address dev eth0
	else
		/bin/busybox mkdir -p /usr/share/udhcpc
		printf '#!/bin/busybox sh\n[ "$1" = bound ] && /bin/busybox ip addr add $ip/$mask dev eth0\n' >/usr/share/udhcpc/default.script
		/bin/busybox chmod +x /usr/share/udhcpc/default.script
		/bin/busybox udhcpc -i eth0 -b -q >/dev/null 2>&1 &
	fi
fi

# The power button ends the machine: the counter first, since the kernel ends the
# disk under whatever still writes.
/bin/busybox mkdir -p /etc/acpi/PWRF
printf '#!/bin/busybox sh\necho shutdown >/dev/ttyS0\n: >/off\n/bin/busybox killall counter\nwhile /bin/busybox pidof counter >/dev/null; do /bin/busybox usleep 20000; done\n/bin/busybox sync\n/bin/busybox poweroff -f\n' >/etc/acpi/PWRF/00000080
/bin/busybox chmod +x /etc/acpi/PWRF/00000080
/bin/busybox acpid -l /dev/null

i=0
while [ ! -e /dev/vda2 ] && [ $i -lt 100 ]; do
	/bin/busybox usleep 50000
	i=$((i + 1))
done
while [ ! -e /off ]; do
	/bin/counter /dev/vda2
	/bin/busybox sleep 1
done
while :; do /bin/busybox sleep 60; done
