// Package e2e tests from outside, on a lab, what an administrator does with the
// product when nothing fails. What happens when something does is in
// test/scenarios.
package e2e

import (
	"testing"

	"quorate/test/stage"
)

func TestMain(m *testing.M) { stage.Main(m) }
