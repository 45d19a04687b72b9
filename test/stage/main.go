package stage

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"quorate/test/lab"
	"quorate/test/lab/box"
	"quorate/test/lab/guest"
)

// bin holds the programs under test, image the guest's disk; both are Main's.
var bin, image string

// Main is the body of a package's TestMain: it builds the programs and the guest,
// runs the tests and exits.
func Main(m *testing.M) {
	box.MaybeInit()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if err := lab.Missing(lab.Options{Bin: os.TempDir(), NoDaemons: true}); err != nil {
		fmt.Println("skipped: the lab cannot be raised here:", err)
		return 0
	}
	dir, err := os.MkdirTemp("", "stage")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	bin = dir
	build := exec.Command("go", "build", "-o", bin+"/", "quorate/cmd/...")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Println("build:", err)
		return 1
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = dir
	}
	img, err := guest.Build(context.Background(), guest.Options{Dir: filepath.Join(cache, "quorate-guest")})
	if err != nil {
		fmt.Println("guest:", err)
		return 1
	}
	image = img.Path
	return m.Run()
}
