package node

import (
	"context"
	"errors"
	"testing"
)

// TestStopWaitsForStarts: who stops everything on a node waits for machines that
// are being started, as long as it may.
func TestStopWaitsForStarts(t *testing.T) {
	var s starts
	if err := s.wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, second := s.begin(), s.begin()
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.wait(short); !errors.Is(err, context.Canceled) {
		t.Fatalf("two are being started: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- s.wait(t.Context()) }()
	first()
	select {
	case err := <-done:
		t.Fatalf("one is being started: %v", err)
	default:
	}
	second()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
