package address

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// arpSize is that of a packet of ARP for IPv4 over Ethernet (RFC 826).
const arpSize = 28

// arp opens a socket for ARP on the interface.
func (i Interface) arp() (fd int, err error) {
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(htons(unix.ETH_P_ARP)))
	if err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ARP), Ifindex: i.Index}); err != nil {
		_ = unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// request is a question who has target, from sender.
func (i Interface) request(sender, target netip.Addr) []byte {
	b := binary.BigEndian.AppendUint16(nil, 1) // Ethernet
	b = binary.BigEndian.AppendUint16(b, unix.ETH_P_IP)
	b = append(b, 6, 4)
	b = binary.BigEndian.AppendUint16(b, 1) // request
	b = append(b, i.MAC...)
	b = append(b, sender.AsSlice()...)
	b = append(b, make([]byte, 6)...)
	return append(b, target.AsSlice()...)
}

func (i Interface) broadcast(fd int, packet []byte) error {
	to := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ARP), Ifindex: i.Index, Halen: 6}
	copy(to.Addr[:], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	return unix.Sendto(fd, packet, 0, to)
}

// conflicts tells whether a packet shows that another machine uses the address,
// or probes for it too.
func (i Interface) conflicts(b []byte, addr netip.Addr) net.HardwareAddr {
	if len(b) < arpSize || binary.BigEndian.Uint16(b[2:]) != unix.ETH_P_IP || b[4] != 6 || b[5] != 4 {
		return nil
	}
	mac := net.HardwareAddr(b[8:14])
	sender, target := netip.AddrFrom4([4]byte(b[14:18])), netip.AddrFrom4([4]byte(b[24:28]))
	if mac.String() == i.MAC.String() {
		return nil
	}
	if sender == addr || sender.IsUnspecified() && target == addr {
		return append(net.HardwareAddr(nil), mac...)
	}
	return nil
}

// probe4 returns the MAC of another machine that uses the address, or nil.
func (i Interface) probe4(ctx context.Context, addr netip.Addr, every time.Duration) (net.HardwareAddr, error) {
	fd, err := i.arp()
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	for n := range probes {
		if err := i.broadcast(fd, i.request(netip.IPv4Unspecified(), addr)); err != nil {
			return nil, err
		}
		wait := every
		if n == probes-1 {
			wait = 2 * every
		}
		mac, err := i.listen4(ctx, fd, addr, time.Now().Add(wait))
		if mac != nil || err != nil {
			return mac, err
		}
	}
	return nil, nil
}

func (i Interface) listen4(ctx context.Context, fd int, addr netip.Addr, end time.Time) (net.HardwareAddr, error) {
	buf := make([]byte, 128)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		left := time.Until(end)
		if left <= 0 {
			return nil, nil
		}
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if mac := i.conflicts(buf[:n], addr); mac != nil {
			return mac, nil
		}
	}
}

func (i Interface) announce4(addr netip.Addr) error {
	fd, err := i.arp()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return i.broadcast(fd, i.request(addr, addr))
}
