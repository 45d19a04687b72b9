package mount_test

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"quorate/csv"
	"quorate/csv/client"
	"quorate/csv/csvpb"
)

// life is one process of an incarnation of node 1; each has a connection of its own.
func (r *rig) life(turn uint32, opens map[uint64]int, locks []csv.Lock) *node {
	r.t.Helper()
	o := client.Options{
		Volume: "Volume1", Node: 1, Incarnation: 77, Device: r.open(name(1)), Reachable: r.reachable(1), Dial: r.dial(1),
		Now: time.Now, Log: r.log.Named("1"),
	}
	if turn > 0 {
		o.Resumed = &client.Resumed{Turn: turn, Opens: opens, Locks: locks}
	}
	c, err := client.New(o)
	must(r.t, err)
	n := &node{Client: c}
	r.mu.Lock()
	r.nodes[1] = n
	r.mu.Unlock()
	c.SetCoordinator("coordinator", r.epoch)
	return n
}

// TestAskedAgain: what the kernel asks a second process for, since it has no answer of
// the first, is not done twice; what was open and locked still is; and what the first
// process waited for does not come to pass. So it is with a new coordinator too.
func TestAskedAgain(t *testing.T) {
	for name, next := range map[string]func(*rig){
		"the same coordinator": func(*rig) {},
		"the next coordinator": func(r *rig) {
			old := r.coord
			r.mu.Lock()
			r.coord = nil
			r.mu.Unlock()
			old.Abandon()
			r.coordinate()
		},
	} {
		t.Run(name, func(t *testing.T) { askedAgain(t, next) })
	}
}

func askedAgain(t *testing.T, next func(*rig)) {
	r := newRig(t, memoryLUN(64<<20))
	a, other := r.life(0, nil, nil), r.client(2)
	do := func(c *node) (ino uint64) {
		t.Helper()
		i, err := c.From(10).CreateOpen(&csvpb.Create{Dir: 1, Name: []byte("x"), Mode: regular, Exclusive: true})
		must(t, err)
		must(t, c.From(12).Write(i.Ino, []byte("once"), -1))
		_, err = c.From(14).Link(i.Ino, 1, "y")
		must(t, err)
		must(t, c.From(16).Rename(1, "y", 1, "z", 0))
		must(t, c.From(18).Remove(1, "x", false))
		_, err = c.From(20).Create(&csvpb.Create{Dir: 1, Name: []byte("d"), Mode: syscall.S_IFDIR | 0o755})
		must(t, err)
		return i.Ino
	}
	ino := do(a)
	held := csv.Lock{Ino: ino, Type: csv.WriteLock, End: 9, Owner: csv.Owner{Owner: 5}}
	must(t, a.SetLock(held, false, nil))
	must(t, other.Open(ino))
	must(t, other.SetLock(csv.Lock{Ino: ino, Type: csv.WriteLock, Start: 10, End: 19, Owner: csv.Owner{Owner: 6}}, false, nil))
	waited := make(chan error, 1)
	go func() {
		waited <- a.SetLock(csv.Lock{Ino: ino, Type: csv.WriteLock, Start: 10, End: 19, Owner: csv.Owner{Owner: 7}}, true, nil)
	}()
	// The first process is killed: it says nothing more, not even goodbye.
	a.Abort()
	<-waited
	next(r)
	b := r.life(1, map[uint64]int{ino: 1}, []csv.Lock{held})
	if again := do(b); again != ino {
		t.Fatalf("inode %d the first time, %d the second", ino, again)
	}
	i, err := b.Stat(ino)
	must(t, err)
	if i.Size != 4 || i.Nlink != 1 {
		t.Fatalf("the file: %v", i)
	}
	if _, err := b.Lookup(1, "x"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("x: %v", err)
	}
	// Asked for anew, not again, it is what it would be.
	if err := b.From(22).Remove(1, "x", false); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("remove x: %v", err)
	}
	if err := other.SetLock(csv.Lock{Ino: ino, Type: csv.ReadLock, End: 0, Owner: csv.Owner{Owner: 6}}, false, nil); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("the lock is not held any more: %v", err)
	}
	must(t, other.ReleaseLocks(ino, 6))
	must(t, other.SetLock(csv.Lock{Ino: ino, Type: csv.WriteLock, Start: 10, End: 19, Owner: csv.Owner{Owner: 8}}, false, nil))
	// Without its last name the file lives: it is open.
	must(t, other.Release(ino))
	must(t, other.Remove(1, "z", false))
	got := make([]byte, 8)
	n, err := b.Read(ino, got, 0)
	must(t, err)
	if string(got[:n]) != "once" {
		t.Errorf("read %q", got[:n])
	}
}
