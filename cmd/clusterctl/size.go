package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// size is a flag's value in bytes, as in 20GiB, 500MB, 1.5TiB or 1048576.
type size int64

var units = []struct {
	name  string
	bytes float64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
}

// String implements pflag.Value.
func (s *size) String() string {
	if *s == 0 {
		return ""
	}
	return formatSize(int64(*s))
}

// Set implements pflag.Value.
func (s *size) Set(text string) error {
	number, unit := strings.TrimSpace(text), 1.0
	for _, u := range units {
		if n := len(number) - len(u.name); n > 0 && strings.EqualFold(number[n:], u.name) {
			number, unit = strings.TrimSpace(number[:n]), u.bytes
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if n, ierr := strconv.ParseInt(number, 10, 64); ierr == nil && unit == 1 {
		*s = size(n)
		v, err = float64(n), nil
	} else if err == nil && v*unit < math.MaxInt64 {
		*s = size(math.Round(v * unit))
	}
	if err != nil || v < 0 || !(v*unit < math.MaxInt64) {
		return fmt.Errorf("%q is no size: write it as in 20GiB, 500MB or 1048576 (bytes)", text)
	}
	return nil
}

// Type implements pflag.Value.
func (s *size) Type() string { return "size" }

// formatSize writes bytes for people, in binary units.
func formatSize(n int64) string {
	for i := 3; i >= 0; i-- {
		if u := units[i]; float64(n) >= u.bytes {
			return strings.TrimSuffix(strconv.FormatFloat(float64(n)/u.bytes, 'f', 1, 64), ".0") + " " + u.name
		}
	}
	return fmt.Sprintf("%d B", n)
}
