package cluster

import (
	"fmt"
	"slices"
	"strings"

	pb "quorate/cluster/clusterpb"
	"quorate/internal/mutant"
)

func proves(f *pb.Fence, kind pb.ProofKind, disk string) bool {
	return slices.ContainsFunc(f.GetProofs(), func(p *pb.Proof) bool { return p.Kind == kind && p.Disk == disk })
}

// both says that one of the proofs that stand for both things is there.
func both(f *pb.Fence) bool {
	return proves(f, pb.ProofKind_PROOF_KIND_SAID_STOPPED, "") || proves(f, pb.ProofKind_PROOF_KIND_POWER_OFF, "")
}

// CannotWrite tells whether it is proved that the node can write to no shared
// disk.
func CannotWrite(f *pb.Fence) bool {
	if both(f) {
		return true
	}
	for _, disk := range f.GetDisks() {
		if !CannotWriteTo(f, disk) {
			return false
		}
	}
	return true
}

// CannotWriteTo is CannotWrite for one disk.
func CannotWriteTo(f *pb.Fence, disk string) bool {
	return both(f) || proves(f, pb.ProofKind_PROOF_KIND_KEYS_REMOVED, disk)
}

// gaveUp tells whether what a node had on a disk may be taken: it cannot write
// there, and its lease is over. Until then it may take its key back, should the
// target restart and forget who was removed.
func gaveUp(f *pb.Fence, disk string) bool { return CannotWriteTo(f, disk) && DoesNotAnswer(f) }

// DoesNotAnswer tells whether it is proved that the node's machines do not
// answer on the network.
func DoesNotAnswer(f *pb.Fence) bool {
	return both(f) || proves(f, pb.ProofKind_PROOF_KIND_LEASE_OVER, "")
}

func describeProofs(f *pb.Fence) string {
	var parts []string
	for _, p := range f.Proofs {
		after := fmt.Sprintf("after %d ms", max(p.AtMs-f.SinceMs, 0))
		switch p.Kind {
		case pb.ProofKind_PROOF_KIND_SAID_STOPPED:
			parts = append(parts, "it said that it stopped")
		case pb.ProofKind_PROOF_KIND_KEYS_REMOVED:
			parts = append(parts, fmt.Sprintf("its key was removed from %s %s", p.Disk, after))
		case pb.ProofKind_PROOF_KIND_LEASE_OVER:
			parts = append(parts, "its lease ran out "+after)
		case pb.ProofKind_PROOF_KIND_POWER_OFF:
			parts = append(parts, "its power is off "+after)
		}
	}
	return strings.Join(parts, ", ")
}

// Key is the reservation key of a node's epoch on shared volumes: cluster, node
// and epoch, never zero. tag is the cluster's (KeyTag).
func Key(tag uint32, node, epoch uint64) uint64 {
	if mutant.On("one key for all epochs") {
		epoch = 1
	}
	return uint64(tag)<<32 | (node&0xffff)<<16 | epoch&0xffff
}

// KeyTag makes a cluster's part of reservation keys from its id (FNV-1a).
func KeyTag(clusterID string) uint32 {
	h := uint32(2166136261)
	for _, b := range []byte(clusterID) {
		h = (h ^ uint32(b)) * 16777619
	}
	return h
}
