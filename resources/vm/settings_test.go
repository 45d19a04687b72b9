package vm

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sound() Settings {
	s := Spec{Name: "vWS08-SQL01", MemoryMiB: 256, CPUs: 1, DiskSize: 1 << 20, Networks: []string{"clients"}}.settings()
	return s
}

func TestSettingsThereAndBack(t *testing.T) {
	s := sound()
	text, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(s, back); d != "" {
		t.Error(d)
	}
}

func TestParseIsStrict(t *testing.T) {
	text, err := sound().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string]string{
		"unknown field": string(text) + "colour: red\n",
		"two documents": string(text) + "---\n" + string(text),
		"no YAML":       "name: [",
		"nothing":       "",
	} {
		if _, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}

func TestValidateListsAllFaults(t *testing.T) {
	s := Settings{
		Name: "../x", UUID: "1", MachineType: "pc,accel=kvm", MemoryMiB: 1, CPUs: 0, CPUModel: "max;", Append: "x",
		Disks:    []Disk{{Path: "a", Format: "vmdk", Size: 5}, {Path: "a", Format: "raw", Size: 512}},
		Networks: []Network{{MAC: "01:00:00:00:00:00"}, {Name: "x", MAC: "52:54:00:00:00:01"}, {Name: "y", MAC: "52:54:00:00:00:01"}},
	}
	err := s.Validate()
	if err == nil {
		t.Fatal("nonsense was taken")
	}
	for _, want := range []string{
		"../x", "uuid", "machine_type", "memory_mib", "cpus", "cpu_model", "need a kernel", "disks[0].format", "disks[0].size",
		"disks[1].path", "networks[0].name", "networks[0].mac", "networks[2].mac",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %s in:\n%v", want, err)
		}
	}
	if err := (Settings{}).Validate(); err == nil || !strings.Contains(err.Error(), "boot from") {
		t.Errorf("empty settings: %v", err)
	}
}

func TestNames(t *testing.T) {
	for _, bad := range []string{"", ".x", "-x", "a/b", "a b", "..", "a\x00", "a,b", strings.Repeat("a", 65)} {
		if CheckName(bad) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	for _, good := range []string{"a", "vWS08-SQL01", "_x", "1.2", strings.Repeat("a", 64)} {
		if err := CheckName(good); err != nil {
			t.Error(err)
		}
	}
}

func TestArgsEscape(t *testing.T) {
	s := sound()
	s.ISO = "a,b.iso"
	v := invocation{settings: s, folder: "/v/x,y", paths: "/run/q/m", accel: AccelTCG, taps: []string{"tap0"}, incoming: true}
	line := strings.Join(v.args(), " ")
	for _, want := range []string{
		"filename=/v/x,,y/disk0.raw", "filename=/v/x,,y/a,,b.iso", "-incoming defer", "-S ", "-cpu qemu64,+aes", "tcg,thread=multi",
		"werror=stop,rerror=stop", "locking=on", "cache.direct=on", "ifname=tap0,script=no", "-sandbox on",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("no %q in %s", want, line)
		}
	}
	if err := paths(strings.Repeat("x", 100)).check(); err == nil {
		t.Error("a socket's path of more than 107 bytes was taken")
	}
}
