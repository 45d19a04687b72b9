package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"quorate/cluster/api/apipb"
)

func TestReportIsOnePage(t *testing.T) {
	f := newFake(t)
	path := filepath.Join(t.TempDir(), "validation.html")
	r := f.run(t, "validate", "--report", path)
	if r.status != 6 || !strings.Contains(r.err, "The report is in "+path) {
		t.Fatalf("%+v", r)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, c := range checks {
		for _, text := range []string{c.Category, c.Name, c.Result, c.Text, c.Advice} {
			if !strings.Contains(page, text) {
				t.Errorf("the report lacks %q", text)
			}
		}
	}
	if !strings.Contains(page, "LABV0002 &lt;1 TiB&gt;") {
		t.Error("what others wrote is not escaped")
	}
	if m := regexp.MustCompile(`(src|href)=|url\(|@import|<script`).FindString(page); m != "" {
		t.Errorf("the report needs something else: %s", m)
	}
	golden(t, "report", page)
}

func TestReportThatCannotBeWritten(t *testing.T) {
	r := newFake(t).run(t, "validate", "--report", filepath.Join(t.TempDir(), "no", "such"))
	if r.status != 1 || !strings.Contains(r.err, "write the report") || !strings.Contains(r.out, "Reservations") {
		t.Errorf("%+v", r)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"20GiB": 20 << 30, "500MB": 500e6, "1048576": 1 << 20, "1.5TiB": 3 << 39, "64 kib": 64 << 10, "7B": 7, "0": 0,
		"9007199254740993": 9007199254740993, "2tb": 2e12,
	} {
		var s size
		if err := s.Set(text); err != nil || int64(s) != want {
			t.Errorf("%q is %d, %v, want %d", text, int64(s), err, want)
		}
	}
	for _, text := range []string{"", "GiB", "20G", "-1", "1e400", "nan", "inf", "9223372036854775808", "10EiB", "1 2"} {
		var s size
		if err := s.Set(text); err == nil {
			t.Errorf("%q is %d", text, int64(s))
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 500 << 20: "500 MiB", 1 << 50: "1024 TiB", 1e12: "931.3 GiB"} {
		if got := formatSize(n); got != want {
			t.Errorf("%d shows as %q, want %q", n, got, want)
		}
	}
}

func TestAdviceIsGivenOnce(t *testing.T) {
	got := gather([]*apipb.Check{
		{Name: "Abilities", Subject: "Q", Advice: "Buy another."},
		{Name: "Clocks", Advice: "Set them."},
		{Name: "Names", Subject: "s1"},
		{Name: "Abilities", Subject: "V", Advice: "Buy another."},
		{Name: "Abilities", Subject: "R", Advice: "Mend it."},
	})
	want := []advice{{"Abilities", "Abilities, Q; V", "Buy another."}, {"Clocks", "Clocks", "Set them."}, {"Abilities", "Abilities, R", "Mend it."}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
