package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// way is one way to the data. It returns bytes per second; errNot where it has no such
// load.
type way struct {
	name  string
	do    func(ctx context.Context, l load, each time.Duration) (float64, error)
	files int // that fio loads at once
	// begins is the processor time that fio takes before it loads anything.
	begins time.Duration
}

var errNot = errors.New("not measured")

// mounted is a way through files, all loaded at once.
func mounted(name string, grows bool, dirs ...string) way {
	return way{name: name, files: len(dirs), do: func(ctx context.Context, l load, each time.Duration) (float64, error) {
		if l.Grow && !grows {
			return 0, errNot
		}
		rates := make([]float64, len(dirs))
		g, ctx := errgroup.WithContext(ctx)
		for i, dir := range dirs {
			g.Go(func() (err error) {
				path := file(dir, i)
				if l.Grow {
					path += "-new"
					defer func() { err = errors.Join(err, os.Remove(path)) }()
				}
				rates[i], err = fio(ctx, l, path, each)
				return err
			})
		}
		err := g.Wait()
		var sum float64
		for _, r := range rates {
			sum += r
		}
		return sum, err
	}}
}

// file is what the node of a number loads in its folder.
func file(dir string, node int) string { return filepath.Join(dir, "disk"+strconv.Itoa(node)) }

// fill writes files, so that each of their blocks has been written once.
func fill(paths ...string) error {
	p := make([]byte, 1<<20)
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		for at := int64(0); at < fileSize && err == nil; at += int64(len(p)) {
			_, err = f.Write(p)
		}
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// process is a node.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startNode starts a node and waits until it is ready.
func startNode(args ...string) (*process, error) {
	cmd := exec.Command("/proc/self/exe", append([]string{roleNode}, args...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd, in, bufio.NewReader(out)}
	if line, err := p.out.ReadString('\n'); err != nil || line != "ready\n" {
		return nil, errors.Join(fmt.Errorf("node %v did not begin: %q: %w", args, line, err), p.stop())
	}
	return p, nil
}

func (p *process) stop() error { return errors.Join(p.in.Close(), p.cmd.Wait()) }

// ask is the way of a bare node.
func (p *process) ask(_ context.Context, l load, each time.Duration) (float64, error) {
	if err := json.NewEncoder(p.in).Encode(order{l, each}); err != nil {
		return 0, err
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return 0, err
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return 0, err
	}
	if a.Error != "" {
		return 0, errors.New(a.Error)
	}
	return a.Rate, nil
}

// stride is what qemu-img's offsets are apart instead of random ones: a prime number of
// blocks.
const stride = 4099 * 4096

// qemu is QEMU's own iscsi driver. Its bench is told how much to do, not for how long:
// expect is what was seen of the same load before.
func qemu(url string, expect func(load) float64) way {
	return way{name: "QEMU's iscsi driver", do: func(ctx context.Context, l load, each time.Duration) (float64, error) {
		if l.Grow {
			return 0, errNot
		}
		n := max(8, int(expect(l)*each.Seconds()/float64(l.Block)))
		args := []string{"bench", "-f", "raw", "-t", "none", "-c", strconv.Itoa(n), "-d", strconv.Itoa(l.Depth), "-s", strconv.Itoa(l.Block)}
		if l.Random {
			args = append(args, "-S", strconv.Itoa(stride))
		}
		if l.Write {
			args = append(args, "-w")
		}
		out, err := exec.CommandContext(ctx, "qemu-img", append(args, url)...).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("qemu-img %v: %w: %s", args, err, out)
		}
		// Run completed in 0.123 seconds.
		_, after, _ := strings.Cut(string(out), "completed in ")
		sec, _, _ := strings.Cut(after, " ")
		took, err := strconv.ParseFloat(sec, 64)
		if err != nil || took <= 0 {
			return 0, fmt.Errorf("qemu-img said %q: %w", out, err)
		}
		return float64(n) * float64(l.Block) / took, nil
	}}
}

// gluster makes a volume of one brick and mounts it. All its daemons end with the
// namespace.
func gluster(ctx context.Context, dir string) (string, error) {
	for _, p := range []string{"glusterd", "gluster", "glusterfs"} {
		if _, err := exec.LookPath(p); err != nil {
			return "", fmt.Errorf("%s is not installed (Debian: glusterfs-server)", p)
		}
	}
	mnt := filepath.Join(dir, "gluster")
	if err := errors.Join(os.MkdirAll(mnt, 0o755), command(ctx, "glusterd")); err != nil {
		return "", err
	}
	var err error
	for range 50 { // until glusterd answers
		if err = command(ctx, "gluster", "--mode=script", "volume", "info"); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		return "", err
	}
	for _, argv := range [][]string{
		{"gluster", "--mode=script", "volume", "create", "bench", address + ":" + filepath.Join(dir, "brick"), "force"},
		{"gluster", "--mode=script", "volume", "start", "bench"},
		{"glusterfs", "-s", address, "--volfile-id=bench", mnt},
	} {
		if err := command(ctx, argv...); err != nil {
			return "", err
		}
	}
	for range 50 { // until it is mounted
		if f, err := os.Create(filepath.Join(mnt, "there")); err == nil && mountpoint(mnt) {
			return mnt, f.Close()
		}
		time.Sleep(100 * time.Millisecond)
	}
	return "", errors.New("the GlusterFS volume was not mounted within 5 seconds")
}

func mountpoint(path string) bool {
	b, err := os.ReadFile("/proc/self/mounts")
	return err == nil && strings.Contains(string(b), " "+path+" ")
}
