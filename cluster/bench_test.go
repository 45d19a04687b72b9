package cluster

import (
	"fmt"
	"testing"

	pb "quorate/cluster/clusterpb"
)

// BenchmarkApply is what one committed command costs each node.
func BenchmarkApply(b *testing.B) {
	d := Found(&pb.Cluster{Id: "c", Name: "c"}, &pb.Node{Id: 1, Name: "s1"})
	for i := range b.N {
		d.Apply(&pb.Command{Id: uint64(i + 1), Kind: &pb.Command_Note{Note: &pb.Note{Text: fmt.Sprint(i)}}}, 1)
	}
}
