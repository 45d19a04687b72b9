package guest

import (
	"os"
	"testing"
)

func TestBuild(t *testing.T) {
	if os.Getenv("QUORATE_GUEST") == "" {
		t.Skip("set QUORATE_GUEST=1 to build the guest's image from Debian's packages (network)")
	}
	img, err := Build(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", img)
	if r, err := Verify(img.Path); err != nil || r.Last != 0 || len(r.Faults) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
