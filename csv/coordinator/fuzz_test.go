package coordinator_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate/csv/coordinator"
	"quorate/csv/csvpb"
	"quorate/csv/volume"
	"quorate/disk"
)

var background = context.Background()

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// FuzzConnection: whatever a node sends to a coordinator, that does not panic, goes on to
// serve another node, and a check of the volume finds nothing. The input is frames, each
// of a byte that says how long it is, and an encoded ToCoordinator.
func FuzzConnection(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		mem := disk.NewMemory(volume.MinSize, 512)
		_, err := volume.Format(background, mem, volume.FormatOptions{UUID: volume.UUID{1}, Name: "V", Cluster: "c", Now: 1})
		must(t, err)
		c, err := coordinator.New(background, coordinator.Options{
			Device: mem, Epoch: 1, Now: time.Now, Log: zap.NewNop(),
			Reset:    func(context.Context) error { return nil },
			Supplant: func(context.Context, []byte) error { return nil },
		})
		must(t, err)
		here, there := net.Pipe()
		served := make(chan struct{})
		go func() {
			defer close(served)
			c.Serve(background, there, &csvpb.Hello{Volume: "V", Node: 1, Incarnation: 5})
		}()
		go func() { // answers are of no interest
			for {
				if csvpb.Read(here, &csvpb.ToClient{}) != nil {
					return
				}
			}
		}()
		for len(data) > 0 {
			n := min(int(data[0]), len(data)-1)
			var m csvpb.ToCoordinator
			// A node without a path may write what one with a path may: anything.
			if proto.Unmarshal(data[1:1+n], &m) == nil && m.GetRequest().GetWriteDevice() == nil {
				if csvpb.Write(here, &m) != nil {
					break
				}
			}
			data = data[1+n:]
		}
		c.Evict(1)
		_ = here.Close()
		<-served
		answers(t, c)
		found, err := c.Check(background, false)
		must(t, err)
		for _, x := range found.Findings {
			t.Errorf("a check finds: %s", x.What)
		}
		must(t, c.Relinquish(background))
	})
}

// answers makes sure that another node is served.
func answers(t *testing.T, c *coordinator.Coordinator) {
	t.Helper()
	here, there := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		c.Serve(background, there, &csvpb.Hello{Volume: "V", Node: 2, Incarnation: 6})
	}()
	var f csvpb.ToClient
	must(t, csvpb.Read(here, &f))
	must(t, csvpb.Write(here, request(1, &csvpb.Request{Op: &csvpb.Request_StatFs{StatFs: &csvpb.StatFS{}}})))
	must(t, csvpb.Read(here, &f))
	if r := f.GetResponse(); r == nil || r.Errno != 0 {
		t.Errorf("another node is answered %v", &f)
	}
	must(t, here.Close())
	<-served
	c.Evict(2)
}

func request(id uint64, r *csvpb.Request) *csvpb.ToCoordinator {
	r.Id = id
	return &csvpb.ToCoordinator{Body: &csvpb.ToCoordinator_Request{Request: r}}
}

// seeds are conversations in which everything is asked for once, and nonsense.
func seeds(f *testing.F) [][]byte {
	size, off := int64(1<<20), int64(1<<40)
	ops := []*csvpb.Request{
		{Op: &csvpb.Request_Create{Create: &csvpb.Create{Dir: 1, Name: []byte("f"), Mode: 0o100644, Open: true}}, Origin: 4},
		{Op: &csvpb.Request_Map{Map: &csvpb.Map{Ino: 2, From: 0, To: 4, Write: true}}},
		{Op: &csvpb.Request_Commit{Commit: &csvpb.Commit{Ino: 2, Size: 9, Written: []*csvpb.Extent{{File: 0, N: 1, Phys: 60}}}}, Origin: 4},
		{Op: &csvpb.Request_Commit{Commit: &csvpb.Commit{Ino: 2, Size: -9}}},
		{Op: &csvpb.Request_Lookup{Lookup: &csvpb.Lookup{Dir: 1, Name: []byte("f")}}},
		{Op: &csvpb.Request_GetInode{GetInode: &csvpb.GetInode{Ino: 1 << 63}}},
		{Op: &csvpb.Request_Link{Link: &csvpb.Link{Ino: 2, Dir: 1, Name: []byte("g")}}},
		{Op: &csvpb.Request_Rename{Rename: &csvpb.Rename{Dir: 1, Name: []byte("g"), NewDir: 1, NewName: []byte("h"), Flags: 7}}},
		{Op: &csvpb.Request_SetAttr{SetAttr: &csvpb.SetAttr{Ino: 2, Size: &size}}, Answered: 1 << 63},
		{Op: &csvpb.Request_SetAttr{SetAttr: &csvpb.SetAttr{Ino: 1, Size: &off}}},
		{Op: &csvpb.Request_Allocate{Allocate: &csvpb.Allocate{Ino: 2, Mode: 3, Off: 100, Len: 70000}}},
		{Op: &csvpb.Request_ReadDir{ReadDir: &csvpb.ReadDir{Dir: 1, Limit: 1 << 31}}},
		{Op: &csvpb.Request_Open{Open: &csvpb.Open{Ino: 2}}},
		{Op: &csvpb.Request_SetLock{SetLock: &csvpb.SetLock{Lock: &csvpb.Lock{Ino: 2, Type: 2, End: 9}, Wait: true}}},
		{Op: &csvpb.Request_TestLock{TestLock: &csvpb.TestLock{}}},
		{Op: &csvpb.Request_ReleaseLocks{ReleaseLocks: &csvpb.ReleaseLocks{Ino: 2}}},
		{Op: &csvpb.Request_Redirect{Redirect: &csvpb.Redirect{}}},
		{Op: &csvpb.Request_ReadDevice{ReadDevice: &csvpb.ReadDevice{At: -512, N: 1 << 31}}},
		{Op: &csvpb.Request_FlushDevice{FlushDevice: &csvpb.FlushDevice{}}},
		{Op: &csvpb.Request_SetXattr{SetXattr: &csvpb.SetXattr{Ino: 2, Name: []byte("user.a"), Value: []byte("v")}}, Origin: 6},
		{Op: &csvpb.Request_SetXattr{SetXattr: &csvpb.SetXattr{Ino: 2, Name: []byte{0xff, 0}, Flags: 3}}},
		{Op: &csvpb.Request_GetXattr{GetXattr: &csvpb.GetXattr{Ino: 2, Name: []byte("user.a")}}},
		{Op: &csvpb.Request_ListXattr{ListXattr: &csvpb.ListXattr{Ino: 2}}},
		{Op: &csvpb.Request_RemoveXattr{RemoveXattr: &csvpb.RemoveXattr{Ino: 2, Name: []byte("user.b")}}},
		{Op: &csvpb.Request_Remove{Remove: &csvpb.Remove{Dir: 1, Name: []byte("f")}}},
		{Op: &csvpb.Request_Close{Close: &csvpb.Close{Ino: 2}}},
		{},
	}
	frames := []*csvpb.ToCoordinator{}
	for i, r := range ops {
		frames = append(frames, request(uint64(i+1), r))
	}
	frames = append(frames,
		&csvpb.ToCoordinator{Body: &csvpb.ToCoordinator_Settled{Settled: &csvpb.Settled{Ino: 2, Mode: 200, Seen: 1 << 63}}},
		&csvpb.ToCoordinator{Body: &csvpb.ToCoordinator_Cancel{Cancel: &csvpb.Cancel{Id: 14}}},
		&csvpb.ToCoordinator{Body: &csvpb.ToCoordinator_Hello{Hello: &csvpb.Hello{}}},
		&csvpb.ToCoordinator{},
	)
	var all []byte
	var out [][]byte
	for _, m := range frames {
		b, err := proto.Marshal(m)
		if err != nil || len(b) > 255 {
			f.Fatal(len(b), errors.Join(err))
		}
		one := append([]byte{byte(len(b))}, b...)
		all = append(all, one...)
		out = append(out, one)
	}
	goodbye, err := proto.Marshal(&csvpb.ToCoordinator{Body: &csvpb.ToCoordinator_Goodbye{Goodbye: &csvpb.Goodbye{}}})
	if err != nil {
		f.Fatal(err)
	}
	return append(out, all, append(all, append([]byte{byte(len(goodbye))}, goodbye...)...))
}
