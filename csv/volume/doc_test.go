package volume

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestFormatIsAsDocumented: the numbers in docs/volume-format.md are those of the code.
func TestFormatIsAsDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/volume-format.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for name, value := range map[string]any{
		"version": version, "block": BlockSize, "alignment of metadata": metaAlign, "header": headerSize, "reserve at each end": reserve,
		"smallest volume": int64(MinSize), "largest volume": int64(MaxSize), "longest file": int64(MaxFileSize),
		"smallest journal": minJournal, "largest journal": maxJournal, "share of the journal": journalShare,
		"longest name": MaxName, "longest symbolic link": maxTarget, "longest name of a volume": maxText,
		"content of a leaf": leafLimit, "index blocks": maxIndexBlocks, "leaves": maxLeaves,
		"root directory": RootIno, "kept blocks": minKept, "kept share": keptShare, "longest value of an attribute": MaxXattr, "attributes of an inode": maxXattrs, "cost of an attribute": xattrCost,
	} {
		if row := fmt.Sprintf("| %s | %d |", name, value); !strings.Contains(doc, row) {
			t.Errorf("no line says %q", row)
		}
	}
	for name, kind := range map[string]uint32{
		"label": kindLabel, "root": kindRoot, "index": kindIndex, "leaf": kindLeaf, "record": kindRecord, "wrap": kindWrap,
	} {
		if row := fmt.Sprintf("| %s | %#x |", name, kind); !strings.Contains(doc, row) {
			t.Errorf("no line says %q", row)
		}
	}
	for name, prefix := range map[string]string{
		"directory entry": prefixDirent, "extent": prefixExtent, "inode": prefixInode, "orphan": prefixOrphan,
		"result": prefixResult, "session": prefixSession, "extended attribute": prefixXattr, "next inode": keyNextIno,
	} {
		if row := fmt.Sprintf("| %s | `%s` |", name, prefix); !strings.Contains(doc, row) {
			t.Errorf("no line says %q", row)
		}
	}
	if !strings.Contains(doc, "`"+magic+"`") {
		t.Error("the magic is not named")
	}
}
