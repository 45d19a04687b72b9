package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"quorate/test/lab/box"
)

// Admin is an administrator's machine: on the clients' network, and no node.
const Admin = "admin"

// AdminAddress is where it is.
const AdminAddress = "192.168.100.250"

// AdminConfig is the folder on the host in which the administrator's machine looks
// for the files of clusters.
func (l *Lab) AdminConfig() string { return filepath.Join(l.box(Admin).Dir(), "config", "quorate") }

// startAdmin boots it.
func (l *Lab) startAdmin(ctx context.Context) error {
	if err := os.MkdirAll(l.AdminConfig(), 0o700); err != nil {
		return err
	}
	_, err := box.Start(ctx, box.Spec{
		Dir: l.box(Admin).Dir(), Hostname: Admin,
		Env: []string{
			"PATH=" + l.o.Bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"XDG_CONFIG_HOME=" + filepath.Dir(l.AdminConfig()),
		},
	}, func(pid int) error {
		if err := l.plug(Admin, pid, Clients, "eth0", net.HardwareAddr{0x52, 0x54, 0x00, 0x1a, 0xfe, 0x01}); err != nil {
			return err
		}
		h, err := handleOf(pid)
		if err != nil {
			return err
		}
		defer h.Close()
		if err := configure(h, "lo", ""); err != nil {
			return err
		}
		return configure(h, "eth0", AdminAddress+"/24")
	})
	if err != nil {
		return fmt.Errorf("boot the administrator's machine: %w", err)
	}
	return nil
}
