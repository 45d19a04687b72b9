package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// lasting are commands whose output is checked, as a table and as JSON, under
// the name of the golden file.
var lasting = map[string]string{
	"status":               "status",
	"version":              "version",
	"validate":             "validate --node s1 --node s2 --portal 192.168.0.1:3260",
	"create":               "create --name ws08r2-cl01 --ip 192.168.100.200 --node s1 --node s2",
	"node_list":            "node list",
	"node_show":            "node show s1",
	"node_self":            "node show",
	"node_enroll":          "node enroll",
	"node_add":             "node add --node s3",
	"node_set":             "node set s2 --site hall-b",
	"node_evict":           "node evict s2",
	"node_leave":           "node leave",
	"node_drain":           "node drain s1 --force save",
	"node_drain_check":     "node drain s1 --check",
	"node_drain_begin":     "node drain --local --for shutdown --no-wait",
	"node_drain_cancel":    "node drain s1 --cancel",
	"node_resume":          "node resume s1 --failback",
	"disarm":               "disarm --for 30m --why switch",
	"arm":                  "arm",
	"san_discover":         "san discover 192.168.0.1:3260",
	"san_login":            "san login 192.168.0.1:3260",
	"san_list":             "san list",
	"quorum_show":          "quorum show",
	"quorum_set":           "quorum set node-majority",
	"disk_list":            "disk list",
	"disk_add":             "disk add",
	"cluster_show":         "cluster show",
	"cluster_upgrade":      "cluster upgrade",
	"cluster_set":          "cluster set --ip 192.168.100.200",
	"cluster_sensitivity":  "cluster set --sensitivity fast",
	"cluster_cpu":          "cluster cpu show",
	"cluster_cpu_set":      "cluster cpu set auto",
	"network_list":         "network list",
	"network_set":          "network set 192.168.100.0/24 --metric 500",
	"vnet_add":             "vnet add External --bridge br0 --bridge s2=ext0",
	"vnet_set":             "vnet set External --bridge s2=ext0",
	"vnet_list":            "vnet list",
	"vnet_show":            "vnet show external",
	"vnet_remove":          "vnet remove Backup",
	"csv_enable":           "csv enable",
	"csv_add":              "csv add",
	"csv_list":             "csv list",
	"csv_show":             "csv show Volume1",
	"csv_check":            "csv check Volume1 --repair",
	"csv_move":             "csv move Volume1 --to s2",
	"csv_grow":             "csv grow Volume1",
	"csv_by_node":          "csv show --by-node",
	"csv_maintenance":      "csv maintenance on Volume1 --stop",
	"csv_maintenance_save": "csv maintenance on Volume1 --save",
	"quick_migrate":        "quick-migrate vWS08-SQL01 --to s2",
	"csv_maintenance_off":  "csv maintenance off Volume1",
	"csv_remove":           "csv remove Volume1",
	"csv_set":              "csv set Volume1 --warn 80,90",
	"vm_create":            "vm create vWS08-SQL01 --disk-size 40GiB",
	"vm_add":               "vm add vWS08-SQL01",
	"vm_remove":            "vm remove vWS08-SQL01",
	"vm_start":             "vm start vWS08-SQL01",
	"vm_stop":              "vm stop vWS08-SQL01",
	"vm_save":              "vm save vWS08-SQL01",
	"vm_discard_state":     "vm discard-state vWS08-SQL01 --yes",
	"vm_move":              "vm move vWS08-SQL01 --to s2",
	"vm_show_saved":        "vm show files1",
	"vm_show":              "vm show vWS08-SQL01",
	"vm_show_new":          "vm show web2",
	"vm_log":               "vm show vWS08-SQL01 --log",
	"vm_list":              "vm list",
	"vm_storage":           "vm move-storage vWS08-SQL01 --to Volume2 --bandwidth 100MiB",
	"vm_storage_fails":     "vm move-storage vWS08-SQL01 --to Volume3",
	"vm_storage_cancel":    "vm move-storage vWS08-SQL01 --cancel",
	"live_migrate":         "live-migrate vWS08-SQL01 --to s2",
	"live_migrate_check":   "live-migrate vWS08-SQL01 --best --check",
	"live_migrate_all":     "live-migrate --from s1 --all",
	"migration_list":       "migration list",
	"migration_show":       "migration show web2",
	"migration_cancel":     "migration cancel web2",
	"migration_set":        "migration set --out 4 --bandwidth 100MiB --max-pause 200ms",
	"group_list":           "group list",
	"group_show":           "group show vWS08-SQL01",
	"group_set":            "group set vWS08-SQL01 --priority high --preferred s1,s2 --possible any --failovers 3 --failover-period 1h --failback 22-6",
	"rule_set":             "rule set controllers --apart --strict dc1 dc2",
	"rule_list":            "rule list",
	"rule_remove":          "rule remove shop",
	"explain_vm":           "explain vm vWS08-SQL01",
	"explain_node":         "explain node s1",
	"plan":                 "plan --kill s1",
	"plan_quorum":          "plan --kill s1 --kill s2",
	"events":               "events",
	"quorum_force":         "quorum force --cluster-name ws08r2-cl01",
}

func TestOutputIsAsItWas(t *testing.T) {
	for name, line := range lasting {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			golden(t, name, show(t, f, line)+"\n"+show(t, f, line+" -o json"))
		})
	}
}

func TestOutputWithoutQuorumIsAsItWas(t *testing.T) {
	f := newFake(t)
	f.stale = true
	golden(t, "stale", show(t, f, "status")+"\n"+show(t, f, "status -o json")+"\n"+show(t, f, "quorum show"))
}

func TestHelpIsAsItWas(t *testing.T) {
	f := newFake(t)
	for _, name := range []string{"", "create", "vm", "vm save", "vm discard-state", "vm move", "vm move-storage", "quick-migrate", "quorum set", "node drain", "node resume", "disarm", "arm", "group", "group set", "rule", "rule set", "explain", "explain vm", "explain node", "plan", "cluster", "cluster cpu", "cluster cpu set", "vnet", "vnet add", "vnet set", "csv", "csv add", "csv show", "csv maintenance", "csv remove", "csv grow", "csv set"} {
		golden(t, strings.TrimSpace("help "+name), show(t, f, name+" --help"))
	}
}

// show runs a command and writes down all that can be seen of it.
func show(t *testing.T, f *fake, line string) string {
	t.Helper()
	r := f.run(t, strings.Fields(line)...)
	if strings.HasSuffix(line, "json") {
		isJSON(t, r.out)
	}
	text := fmt.Sprintf("$ clusterctl %s\n%s", line, r.out)
	if r.err != "" {
		text += "stderr:\n" + r.err
	}
	if r.status != 0 {
		text += fmt.Sprintf("exit status %d\n", r.status)
	}
	return text
}

// isJSON checks that text is JSON, of one value or several, without null where
// an array belongs.
func isJSON(t *testing.T, text string) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	for n := 0; ; n++ {
		var v any
		if err := d.Decode(&v); err == io.EOF && n > 0 {
			break
		} else if err != nil {
			t.Fatalf("not JSON: %v\n%s", err, text)
		}
	}
	if strings.Contains(text, ": null") && !strings.Contains(text, `"group": null`) {
		t.Errorf("null in the answer:\n%s", text)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", strings.ReplaceAll(name, " ", "_")+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); if it is meant, run the test with -update:\n%s", path, diff)
	}
}
