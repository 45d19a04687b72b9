package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"quorate/test/lab"
	"quorate/test/lab/box"
	"quorate/test/lab/guest"
)

// What the administrator has.
const (
	first, second = "s1", "s2"
	machine       = "vWS08-SQL01"
	volume        = "Volume1"
	clusterName   = "ws08r2-cl01"
)

// Bounds of waits.
const (
	readyLimit    = 30 * time.Second
	bootLimit     = 90 * time.Second // a machine's, without KVM on a busy host
	failoverLimit = 60 * time.Second
	tickLimit     = 20 * time.Second
)

// steps is the administrator's day.
func (d *demo) steps(ctx context.Context) error {
	for _, part := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Is this hardware fit, and what is on the SAN?", d.look},
		{"Make the cluster", d.create},
		{"A shared volume, mounted on both servers", d.share},
		{"A machine, highly available", d.provide},
	} {
		d.title(part.title)
		if err := part.do(ctx); err != nil {
			return err
		}
	}
	d.title("Move it to " + second + " while it runs")
	m, err := d.move(ctx)
	if err != nil {
		return err
	}
	d.title("Pull the plug on " + second)
	f, err := d.cut(ctx)
	if err != nil {
		return err
	}
	d.title("Was anything lost?")
	w, err := d.verify(ctx)
	if err != nil {
		return err
	}
	d.figures(m, f, w)
	return nil
}

func (d *demo) look(ctx context.Context) error {
	if _, err := d.ctl(ctx, "san", "discover", lab.SANAddress); err != nil {
		return err
	}
	_, err := d.ctl(ctx, "validate", "--node", first, "--node", second, "--portal", lab.Portal)
	return err
}

func (d *demo) create(ctx context.Context) error {
	if _, err := d.ctl(ctx, "create", "--name", clusterName, "--ip", "192.168.100.200", "--node", first, "--node", second, "--portal", lab.Portal); err != nil {
		return err
	}
	if _, err := d.ctl(ctx, "quorum", "show"); err != nil {
		return err
	}
	if err := d.equip(ctx); err != nil {
		return err
	}
	s, err := d.status(ctx)
	if err == nil && (s.Quorum.Mode != "node-and-disk-majority" || s.Quorum.Have != 3) {
		err = fmt.Errorf("two nodes and a witness should be 3 votes under node-and-disk-majority; the cluster says %d under %s", s.Quorum.Have, s.Quorum.Mode)
	}
	return err
}

// equip gives the administrator's own machine what it needs to reach the cluster.
func (d *demo) equip(ctx context.Context) error {
	text, err := d.ask(ctx, "config", "export")
	if err != nil {
		return err
	}
	d.typed(first, "clusterctl", "config", "export", ">", clusterName+".yaml")
	if err := os.WriteFile(filepath.Join(d.lab.AdminConfig(), clusterName+".yaml"), text, 0o600); err != nil {
		return err
	}
	return d.fromAfar(ctx, "cluster", "show")
}

// fromAfar types a command on the administrator's machine, which is no node.
func (d *demo) fromAfar(ctx context.Context, args ...string) error {
	_, err := d.ctlOn(ctx, lab.Admin, append([]string{"--cluster", clusterName}, args...)...)
	return err
}

func (d *demo) share(ctx context.Context) error {
	if _, err := d.ctl(ctx, "csv", "enable"); err != nil {
		return err
	}
	_, err := d.ctl(ctx, "csv", "add")
	return err
}

func (d *demo) provide(ctx context.Context) error {
	for _, args := range [][]string{
		{"vm", "create", machine, "--image", d.image, "--memory", "256MiB"},
		{"vm", "add", machine},
		{"vm", "start", machine},
		{"status"},
	} {
		if _, err := d.ctl(ctx, args...); err != nil {
			return err
		}
	}
	if err := d.ticks(ctx, first, 100, bootLimit); err != nil {
		return err
	}
	c, err := d.consoles.on(first)
	if err == nil {
		d.say("It booted from the volume and counts: its start is %s, and on its console it has acknowledged", c.Ticks[0].Boot)
		d.say("%d writes, one every 20 ms, each durable before its number was printed.", c.Last())
	}
	return err
}

// ticks waits until the machine has acknowledged so many writes more on a node
// than it had at all.
func (d *demo) ticks(ctx context.Context, node string, more uint64, limit time.Duration) error {
	before, err := d.consoles.all()
	if err != nil {
		return err
	}
	want := before.Last() + more
	what := fmt.Sprintf("the machine on %s has acknowledged write %d", node, want)
	return until(ctx, limit, what, func(context.Context) (string, error) {
		c, err := d.consoles.on(node)
		if err != nil || c.Last() >= want {
			return "", err
		}
		return fmt.Sprintf("it was at %d", c.Last()), nil
	})
}

// moved is how long a live migration took.
type moved struct{ total, pause string }

// movedLine is how clusterctl says that a machine was moved.
var movedLine = regexp.MustCompile(`moved from s1 to s2 in (\S+), paused for (\S+);`)

func (d *demo) move(ctx context.Context) (moved, error) {
	answer, err := d.ctl(ctx, "live-migrate", machine, "--to", second)
	if err != nil {
		return moved{}, err
	}
	found := movedLine.FindStringSubmatch(answer)
	if found == nil {
		return moved{}, fmt.Errorf("live-migrate did not say that %s was moved from %s to %s", machine, first, second)
	}
	if err := d.ticks(ctx, second, 100, tickLimit); err != nil {
		return moved{}, err
	}
	here, err := d.consoles.on(first)
	if err != nil {
		return moved{}, err
	}
	there, err := d.consoles.on(second)
	if err != nil {
		return moved{}, err
	}
	if err := sameMachine(here, there); err != nil {
		return moved{}, err
	}
	d.say("The same running machine: start %s said %d as its last number on %s, and %d as its first on %s.",
		here.Ticks[0].Boot, here.Last(), first, there.Ticks[0].Seq, second)
	return moved{found[1], found[2]}, nil
}

// sameMachine says whether a machine went on counting where it was moved to.
func sameMachine(here, there guest.Console) error {
	switch {
	case len(here.Ticks) == 0 || len(there.Ticks) == 0:
		return fmt.Errorf("the machine said nothing on %s or on %s", first, second)
	case len(there.Boots) != 0 || here.Ticks[0].Boot != there.Ticks[0].Boot:
		return fmt.Errorf("the machine was started anew on %s: it was not moved", second)
	// A line may be in the middle of being printed when the machine is moved.
	case there.Ticks[0].Seq <= here.Last() || there.Ticks[0].Seq > here.Last()+2:
		return fmt.Errorf("the machine's last number on %s is %d, its first on %s is %d", first, here.Last(), second, there.Ticks[0].Seq)
	}
	return nil
}

func (d *demo) cut(ctx context.Context) (failover, error) {
	d.typed("lab", "clusterlab", "kill", second)
	at := time.Now()
	if err := d.lab.Kill(ctx, second); err != nil {
		return failover{}, err
	}
	what := fmt.Sprintf("%s runs on %s", machine, first)
	err := until(ctx, failoverLimit, what, func(ctx context.Context) (string, error) {
		s, err := d.status(ctx)
		if err != nil {
			return err.Error(), nil // it may be electing a leader
		}
		state, owner := s.group(machine)
		if state == "online" && owner == first && !s.Stale {
			return "", nil
		}
		return fmt.Sprintf("it was %s, owned by %s", state, owner), nil
	})
	if err != nil {
		return failover{}, err
	}
	if err := d.ticks(ctx, first, 100, bootLimit); err != nil {
		return failover{}, err
	}
	if err := d.fromAfar(ctx, "status"); err != nil {
		return failover{}, err
	}
	if _, err := d.ctl(ctx, "events"); err != nil {
		return failover{}, err
	}
	text, err := d.ask(ctx, "events", "-o", "json")
	if err != nil {
		return failover{}, err
	}
	return breakDown(at, text)
}

// writes is what the disk holds of what was acknowledged.
type writes struct {
	acknowledged int
	starts       int
	last         uint64
}

// verify stops the machine, reads its disk on the volume, and compares it with
// what the machine said on both nodes.
func (d *demo) verify(ctx context.Context) (writes, error) {
	if _, err := d.ctl(ctx, "vm", "stop", machine); err != nil {
		return writes{}, err
	}
	said, err := d.consoles.all()
	if err != nil {
		return writes{}, err
	}
	onVolume := "/ClusterStorage/" + volume + "/" + machine + "/disk0.raw"
	disk := filepath.Join(d.lab.Dir(), "disk0.raw")
	if err := d.fetch(ctx, onVolume, disk); err != nil {
		return writes{}, err
	}
	report, err := guest.Verify(disk)
	if err != nil {
		return writes{}, err
	}
	d.say("%s, read through the mount on %s, ends at number %d, with %d records of %d starts.",
		onVolume, first, report.Last, report.Records, len(report.Boots))
	if lost := guest.Lost(said, report); len(lost) > 0 {
		return writes{}, fmt.Errorf("the disk and the consoles differ in %d places, the first: %s", len(lost), lost[0])
	}
	d.say("%d writes were acknowledged on the consoles of both nodes: none was lost, none was made twice.", len(said.Ticks))
	return writes{len(said.Ticks), len(report.Boots), report.Last}, nil
}

// fetch copies a file of a volume, as s1 sees it, to this host.
func (d *demo) fetch(ctx context.Context, from, to string) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	code, err := d.lab.Exec(ctx, first, []string{"cat", from}, box.Stdio{Out: f})
	if err == nil && code != 0 {
		err = fmt.Errorf("read %s on %s: status %d", from, first, code)
	}
	return err
}

// status is what the demo reads of `clusterctl status -o json`.
type status struct {
	Stale  bool
	Quorum struct {
		Mode string
		Have int
	}
	Groups []struct{ Name, State, Owner string }
}

func (s status) group(name string) (state, owner string) {
	for _, g := range s.Groups {
		if g.Name == name {
			return g.State, g.Owner
		}
	}
	return "missing", "nobody"
}

func (d *demo) status(ctx context.Context) (status, error) {
	text, err := d.ask(ctx, "status", "-o", "json")
	if err != nil {
		return status{}, err
	}
	var s status
	if err := json.Unmarshal(text, &s); err != nil {
		return status{}, fmt.Errorf("read the status: %w", err)
	}
	return s, nil
}
