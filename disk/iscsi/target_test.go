//go:build cgo

package iscsi

import (
	"context"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"quorate/test/lab/tgt"
	"quorate/test/lab/tgt/tgttest"
)

const (
	testIQN  = "iqn.2026-11.test.quorate:san"
	testName = "iqn.2026-11.test.quorate:node-"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(victimEnv); url != "" {
		os.Exit(victim(url))
	}
	goleak.VerifyTestMain(m)
}

// startTarget runs a tgtd on loopback with two LUNs: 1 of 64 MiB, 2 of 1 GiB,
// slow.
func startTarget(t testing.TB, change ...func(*tgt.Options)) (*tgt.Target, Options) {
	t.Helper()
	o := tgt.Options{IQN: testIQN, LUNs: []tgt.LUN{
		{Number: 1, Name: "Q", Size: 64 << 20, ID: "51000001", Serial: "Q0001"},
		{Number: 2, Name: "V", Size: 1 << 30, ID: "51000002", Serial: "V0001", Sync: true},
	}}
	target, portal := tgttest.Start(t, o, change...)
	return target, Options{Portal: portal, Target: testIQN, LUN: 1, InitiatorName: testName + "a", Timeout: 3 * time.Second, Log: zap.NewNop()}
}

func node(o Options, name string) Options {
	o.InitiatorName = testName + name
	return o
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}
