package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime/pprof"
	"time"

	"go.uber.org/zap"

	"quorate/csv"
	"quorate/csv/client"
	"quorate/csv/coordinator"
	"quorate/csv/mount"
	"quorate/csv/volume"
	"quorate/disk"
	"quorate/disk/iscsi"
)

// Kinds of nodes.
const (
	kindBare        = "bare"        // loads its LUN itself, as it is told
	kindCoordinator = "coordinator" // mounts the volume, and coordinates it
	kindMember      = "member"      // mounts the volume
	kindNull        = "null"        // mounts nothing at all
)

// node is a process of its own, until its standard input ends. It says "ready".
func node(args []string) error {
	f := flag.NewFlagSet(roleNode, flag.ContinueOnError)
	kind := f.String("kind", "", "")
	id := f.Uint64("id", 0, "")
	url := f.String("url", "", "")
	path := f.String("path", "", "")
	sock := f.String("sock", "", "")
	profile := f.String("profile", "", "")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *profile != "" {
		w, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer w.Close()
		if err := pprof.StartCPUProfile(w); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	ctx := context.Background()
	if *kind == kindNull {
		return null(ctx, *path)
	}
	d, err := openLUN(ctx, *url, *id)
	if err != nil {
		return err
	}
	defer d.Close()
	if *kind == kindBare {
		return bareNode(ctx, d)
	}
	return member(ctx, *kind == kindCoordinator, d, *id, *path, *sock)
}

// openLUN is a LUN with a node's gate in front of it, as noded has it.
func openLUN(ctx context.Context, url string, id uint64) (disk.Device, error) {
	lun, err := iscsi.Open(ctx, iscsi.Options{URL: url, InitiatorName: fmt.Sprintf("iqn.2026-11.test.quorate:node-%d", id), Purpose: "bench"})
	if err != nil {
		return nil, err
	}
	g, err := disk.NewGuard(lun, disk.GuardOptions{Type: disk.WriteExclusiveRegistrantsOnly, Permit: func() error { return nil }})
	if err != nil {
		return nil, errors.Join(err, lun.Close())
	}
	if err := g.Admit(ctx, disk.Key(0x5100+id)); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// order is one load for a bare LUN, and answer what came of it.
type order struct {
	Load load
	Each time.Duration
}

type answer struct {
	Rate  float64
	Error string
}

func bareNode(ctx context.Context, d disk.Device) error {
	p := make([]byte, 1<<20)
	for at := int64(0); at < fileSize; at += int64(len(p)) {
		if err := d.WriteAt(ctx, p, at); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	blank := int64(fileSize) // from here on nothing was written
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			return nil
		}
		from := int64(0)
		if o.Load.Grow {
			from = blank
		}
		rate, n, err := bare(ctx, o.Load, d, from, o.Each)
		a := answer{Rate: rate}
		if err != nil {
			a.Error = err.Error()
		}
		if o.Load.Grow {
			blank += n
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

// member mounts the volume, and coordinates it where it is to.
func member(ctx context.Context, coordinates bool, d disk.Device, id uint64, path, sock string) error {
	if coordinates {
		c, l, err := coordinate(ctx, d, sock)
		if err != nil {
			return err
		}
		defer func() {
			_ = l.Close()
			c.Abandon()
		}()
	}
	c, err := client.New(client.Options{
		Volume: "bench", Node: csv.NodeID(id), Incarnation: uint64(time.Now().UnixNano()), Device: d,
		Reachable: func() bool { return true }, Session: []byte{byte(id)}, Now: time.Now, Log: zap.NewNop(),
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			var n net.Dialer
			return n.DialContext(ctx, "unix", addr)
		},
	})
	if err != nil {
		return err
	}
	c.SetCoordinator(sock, 1)
	m, err := mount.New(mount.Options{
		Path: path, Name: "bench", Volume: c, From: func(request uint64) mount.Volume { return c.From(request) }, Log: zap.NewNop(),
	})
	if err != nil {
		return err
	}
	return serve(ctx, m, c.Abort)
}

// serve shows a mount until standard input ends.
func serve(ctx context.Context, m *mount.Mount, abort func()) error {
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	abort()
	return m.Unmount(ctx, true)
}

// coordinate formats the volume and serves it at a unix socket.
func coordinate(ctx context.Context, d disk.Device, sock string) (*coordinator.Coordinator, net.Listener, error) {
	if _, err := volume.Format(ctx, d, volume.FormatOptions{UUID: volume.UUID{7}, Name: "bench", Cluster: "bench", Now: 1}); err != nil {
		return nil, nil, err
	}
	c, err := coordinator.New(ctx, coordinator.Options{
		Device: d, Epoch: 1, Now: time.Now, Log: zap.NewNop(), Reset: func(context.Context) error { return nil },
		Supplant: func(context.Context, []byte) error { return errors.New("nobody is supplanted here") },
	})
	if err != nil {
		return nil, nil, err
	}
	l, err := net.Listen("unix", sock)
	if err != nil {
		return nil, nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				h, err := coordinator.ReadHello(conn)
				if err != nil {
					_ = conn.Close()
					return
				}
				c.Serve(ctx, conn, h)
			}()
		}
	}()
	return c, l, nil
}
