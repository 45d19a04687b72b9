package main

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster/api/apipb"
)

func refusal(t *testing.T, code connect.Code, text string) error {
	t.Helper()
	err := connect.NewError(code, errors.New(text))
	if code == connect.CodeUnavailable {
		d, derr := connect.NewErrorDetail(&apipb.QuorumLost{Have: 1, Needed: 2, Total: 3})
		if derr != nil {
			t.Fatal(derr)
		}
		err.AddDetail(d)
	}
	return err
}

func TestRefusalsHaveTheirStatus(t *testing.T) {
	for _, c := range []struct {
		code   connect.Code
		status int
		text   string
	}{
		{connect.CodeInvalidArgument, 2, "clusterctl: why it is so\n"},
		{connect.CodeNotFound, 3, "clusterctl: why it is so\n"},
		{connect.CodeFailedPrecondition, 4, "clusterctl: why it is so\n"},
		{connect.CodeAlreadyExists, 4, "clusterctl: why it is so\n"},
		{connect.CodePermissionDenied, 4, "clusterctl: why it is so\n"},
		{connect.CodeUnavailable, 5, "no quorum: 1 vote, 2 of 3 needed"},
		{connect.CodeDeadlineExceeded, 7, "clusterctl: why it is so\n"},
		{connect.CodeUnknown, 1, "clusterctl: why it is so\n"},
		{connect.CodeInternal, 1, "clusterctl: why it is so\n"},
		{connect.CodeUnimplemented, 1, "different versions"},
	} {
		f := newFake(t)
		f.err = refusal(t, c.code, "why it is so")
		// One that answers once, one that streams, one with bytes both ways.
		for _, line := range []string{"vm start web1", "live-migrate web1", "vm console web1", "create --name x --node s1 -o json"} {
			r := f.run(t, strings.Fields(line)...)
			if r.status != c.status || !strings.Contains(r.err, c.text) || r.out != "" {
				t.Errorf("%v to %q: status %d, %q, %q; want %d, %q", c.code, line, r.status, r.out, r.err, c.status, c.text)
			}
		}
	}
}

func TestWrongUsageIsTwo(t *testing.T) {
	f := newFake(t)
	for line, text := range map[string]string{
		"statsu":                             `did you mean "status"?`,
		"vm frob web1":                       `"frob" is no command of "clusterctl vm"`,
		"status now":                         "unknown command",
		"status --colour":                    "unknown flag: --colour",
		"status -o yaml":                     "must be table or json",
		"status --timeout soon":              "invalid",
		"create --node s1":                   `"name" not set`,
		"create --name x":                    `"node" not set`,
		"node add":                           `"node" not set`,
		"vm start":                           "accepts 1 arg(s)",
		"vm create w":                        "at least one of the flags",
		"vm create w --disk-size 20Gib8":     "is no size",
		"vm create w --disk-size -1":         "is no size",
		"vm create w --disk-size 99999999TB": "is no size",
		"vm create w --disk-size 1GiB --memory 512": "did you mean 512MiB?",
		"vm create w --disk-size 1GiB --cpus 0":     "at least 1",
		"quorum set":                                "name the mode",
		"quorum set disk-only --share /mnt":         "without --witness",
		"san login p --chap-user me":                "chap-password-file",
		"vm vnc w --listen 0.0.0.0:5900":            "of loopback",
		"vm vnc w --listen here":                    "of loopback",
		"vm console w -o json":                      "vm show --log",
		"live-migrate a b":                          "accepts at most 1 arg(s)",
		"vm move-storage w":                         "name the volume with --to",
		"vm move-storage w --to V --cancel":         "name the volume with --to",
	} {
		r := f.run(t, strings.Fields(line)...)
		if r.status != 2 || !strings.Contains(r.err, text) || r.out != "" {
			t.Errorf("%q: status %d, out %q, err %q; want 2 and %q", line, r.status, r.out, r.err, text)
		}
	}
	if len(f.asked) != 0 {
		t.Errorf("clusterd was asked: %v", f.asked)
	}
}

func TestNounsAloneShowHelp(t *testing.T) {
	f := newFake(t)
	for _, noun := range []string{"vm", "csv", "disk", "quorum", "san", "node"} {
		if r := f.run(t, noun); r.status != 0 || !strings.Contains(r.out, "Available Commands:") {
			t.Errorf("%s: %+v", noun, r)
		}
	}
}

func TestNoSuchNodeNamesThoseThereAre(t *testing.T) {
	r := newFake(t).run(t, "node", "show", "s9")
	if r.status != 3 || !strings.Contains(r.err, `there is no node "s9"; there is s1, s2`) {
		t.Errorf("%+v", r)
	}
}

func TestWithoutClusterd(t *testing.T) {
	f := &fake{socket: filepath.Join(t.TempDir(), "none")}
	r := f.run(t, "status")
	if r.status != 1 || !strings.Contains(r.err, "clusterd does not run on this node") || !strings.Contains(r.err, "systemctl start clusterd") {
		t.Errorf("%+v", r)
	}
	if r := f.run(t, "version"); r.status != 0 || !strings.Contains(r.out, "clusterctl") || !strings.Contains(r.err, "does not run") {
		t.Errorf("version: %+v", r)
	}
	if r := f.run(t, "__complete", "vm", "start", ""); strings.Contains(r.out, "web1") || r.status != 0 {
		t.Errorf("completion: %+v", r)
	}
}

func TestSilentClusterdTimesOut(t *testing.T) {
	f := newFake(t)
	f.hang = true
	for _, line := range []string{"status", "live-migrate web1"} {
		if r := f.run(t, append(strings.Fields(line), "--timeout", "50ms")...); r.status != 7 || !strings.Contains(r.err, "timed out") {
			t.Errorf("%q: %+v", line, r)
		}
	}
	began := time.Now()
	f.run(t, "__complete", "vm", "start", "")
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("a completion took %v", took)
	}
}

func TestInterruptedIsFailed(t *testing.T) {
	f := newFake(t)
	f.hang = true
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := f.runWith(ctx, nil, "vm", "stop", "web1"); r.status != 1 || !strings.Contains(r.err, "interrupted") {
		t.Errorf("%+v", r)
	}
}

func TestValidationWithoutErrorsIsDone(t *testing.T) {
	f := newFake(t)
	f.check = checks[:2]
	if r := f.run(t, "validate"); r.status != 0 || !strings.Contains(r.out, "0 errors, 1 warning") {
		t.Errorf("%+v", r)
	}
}

func TestMoveThatWasNotMade(t *testing.T) {
	f := newFake(t)
	for result, text := range map[string]string{
		"failed":    "clusterctl: web1 was not moved: s2 has too little memory",
		"cancelled": "clusterctl: the move of web1 is cancelled: s2 has too little memory",
		"unknown":   "clusterctl: the move of web1 is unknown: s2 has too little memory",
	} {
		f.set(func() {
			f.moved = &apipb.MigrationUpdate{Vm: "web1", From: "s1", To: "s2", Done: true, Result: result, Reason: "s2 has too little memory"}
		})
		if r := f.run(t, "live-migrate", "web1"); r.status != 1 || !strings.Contains(r.err, text) || strings.Contains(r.out, "moved from") {
			t.Errorf("%+v", r)
		}
		r := f.run(t, "live-migrate", "web1", "-o", "json")
		lines := strings.Split(strings.TrimSpace(r.out), "\n")
		if last := lines[len(lines)-1]; r.status != 1 || !strings.Contains(last, `"result":"`+result+`","reason":"s2 has`) {
			t.Errorf("%+v", r)
		}
	}
}

func TestAnswersThatAreCutOff(t *testing.T) {
	f := newFake(t)
	f.moved = nil
	for _, line := range []string{"live-migrate web1", "node add --node cut-off"} {
		if r := f.run(t, strings.Fields(line)...); r.status != 1 || !strings.Contains(r.err, "before the end") {
			t.Errorf("%q: %+v", line, r)
		}
	}
}

func TestWhatIsAsked(t *testing.T) {
	for line, want := range map[string]string{
		"vm create w --memory 1.5GiB --cpus 2 --disk-size 20GB --image x.raw --network lan --volume V": `VmCreateRequest name:"w" volume:"V" memory_mib:1536 cpus:2 disk_size:20000000000 image:"/x.raw" networks:"lan"`,
		"create --name c --node a,b --node d --portal p:1 --quorum disk-only --witness naa.1 --force":  `CreateRequest name:"c" nodes:"a,b" nodes:"d" portals:"p:1" quorum:"disk-only" witness:"naa.1" force:true`,

		"vm stop w --hard":                   `VmStopRequest name:"w" hard:true wait:true`,
		"vm start w --no-wait":               `VmStartRequest name:"w"`,
		"quorum set --share /mnt/w":          `QuorumSetRequest mode:"node-and-share-majority" share:"/mnt/w"`,
		"quorum set --witness naa.2":         `QuorumSetRequest mode:"node-and-disk-majority" witness:"naa.2"`,
		"csv enable --off":                   `CsvEnableRequest`,
		"csv move Volume1 --to s2":           `CsvMoveRequest volume:"Volume1" to:"s2"`,
		"csv maintenance on Volume1":         `CsvMaintenanceRequest volume:"Volume1" on:true`,
		"csv maintenance on Volume1 --stop":  `CsvMaintenanceRequest volume:"Volume1" on:true stop:true`,
		"csv maintenance off Volume1":        `CsvMaintenanceRequest volume:"Volume1"`,
		"csv remove Volume1":                 `CsvRemoveRequest volume:"Volume1"`,
		"csv set Volume1 --warn 70,85":       `CsvSetRequest volume:"Volume1" warn_at:70 warn_at:85`,
		"csv set Volume1 --warn default":     `CsvSetRequest volume:"Volume1"`,
		"csv add --path /mnt/shared":         `CsvAddRequest path:"/mnt/shared"`,
		"csv add naa.2 --keep":               `CsvAddRequest disk:"naa.2" keep:true`,
		"csv grow Volume1":                   `CsvGrowRequest volume:"Volume1"`,
		"vm discard-state web2 --yes":        `VmDiscardStateRequest name:"web2"`,
		"csv add naa.2 --name V --force":     `CsvAddRequest disk:"naa.2" name:"V" force:true`,
		"events --after 7":                   `EventsRequest after:7`,
		"node enroll --address 10.0.0.1":     `EnrollRequest address:"10.0.0.1"`,
		"live-migrate w --to s2":             `LiveMigrateRequest vm:"w" to:"s2"`,
		"vm show w --log --log-bytes 100":    `VmShowRequest name:"w" console:true console_bytes:100`,
		"vm move-storage w --cancel":         `VmMoveStorageRequest name:"w" cancel:true`,
		"validate --node s1 --portal p:3260": `ValidateRequest nodes:"s1" portals:"p:3260"`,
		"migration cancel w":                 `MigrationCancelRequest vm:"w"`,
		"migration set --bandwidth 0":        `MigrationSetRequest options:{bandwidth:0}`,
		"network set A --migration-order 0":  `NetworkSetRequest network:"A" migration_order:0`,

		"san login p --target iqn.x --chap-user u --chap-password-file -": `SanLoginRequest portal:"p" target:"iqn.x" chap:{user:"u" password:"hidden"}`,
	} {
		t.Run(line, func(t *testing.T) {
			t.Chdir("/")
			f := newFake(t)
			f.runWith(t.Context(), strings.NewReader("hidden\n"), strings.Fields(line)...)
			squeezed := strings.Join(strings.Fields(strings.Join(f.asked, "\n")), " ")
			if !strings.HasSuffix(squeezed, want) {
				t.Errorf("asked %q, want %q", squeezed, want)
			}
		})
	}
}

func TestNamesComplete(t *testing.T) {
	f := newFake(t)
	for line, want := range map[string][]string{
		"vm start ":                 {"vWS08-SQL01"},
		"vm console ":               {"vWS08-SQL01"},
		"vm remove ":                {"vWS08-SQL01"},
		"live-migrate ":             {"vWS08-SQL01"},
		"live-migrate vWS08-SQL01 ": {},
		"live-migrate --to ":        {"s1", "s2"},
		"node show ":                {"s1", "s2"},
		"csv maintenance ":          {"on", "off"},
		"csv maintenance on ":       {"Volume1"},
		"csv remove ":               {"Volume1"},
		"csv add ":                  {"Cluster Disk 1", "Cluster Disk 2"},
		"quorum set --witness ":     {"Cluster Disk 1", "Cluster Disk 2"},
		"vm create --volume ":       {"Volume1"},
		"quorum set n":              {"node-majority", "node-and-disk-majority", "node-and-share-majority"},
		"status -o ":                {"table", "json"},
		"validate --report x":       {"html"},
		"vm st":                     {"start", "stop"},
	} {
		words := strings.Split(line, " ")
		r := f.run(t, append([]string{"__complete"}, words...)...)
		got := []string{}
		for l := range strings.Lines(r.out) {
			if name, _, _ := strings.Cut(strings.TrimSpace(l), "\t"); !strings.HasPrefix(l, ":") && strings.HasPrefix(name, words[len(words)-1]) || name == "html" {
				got = append(got, name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q completes to %q, want %q\n%s", line, got, want, r.out)
		}
	}
}

// TestDiscardAsksForTheName: what a machine had in memory is given up by who types its
// name, or says --yes.
func TestDiscardAsksForTheName(t *testing.T) {
	for typed, asked := range map[string]bool{"": false, "web1\n": false, "web2\n": true, "web2": true} {
		f := newFake(t)
		r := f.runWith(t.Context(), strings.NewReader(typed), "vm", "discard-state", "web2")
		if got := len(f.asked) > 0; got != asked || asked != (r.status == 0) {
			t.Errorf("typed %q: asked %v, %+v", typed, f.asked, r)
		}
		if !strings.Contains(r.out, "Type the machine's name") {
			t.Errorf("typed %q: %q", typed, r.out)
		}
	}
	f := newFake(t)
	if r := f.run(t, "vm", "discard-state", "web2", "-o", "json"); r.status == 0 || len(f.asked) > 0 {
		t.Errorf("where nobody can type: %+v", r)
	}
}
