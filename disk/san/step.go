package san

import (
	"context"
	"maps"
	"slices"
	"time"

	"quorate/disk"
)

// step is what a ProbeRequest can ask for.
type step struct {
	// changes: reservations or data are touched, so the LUN must be free.
	changes bool
	do      func(context.Context, *probe, ProbeRequest) (ProbeResult, error)
}

var steps = map[string]step{
	"capabilities": {false, probeCapabilities},
	"read-keys":    {false, probeKeys},
	"latency":      {false, probeLatency},
	"register":     {true, probeRegister},
	"reserve":      {true, probeReserve},
	"preempt":      {true, probePreempt},
	"clear":        {true, probeClear},
	"write":        {true, probeWrite},
	"close":        {false, nil}, // Probe does it
}

func stepNames() []string { return slices.Sorted(maps.Keys(steps)) }

func (p *probe) reserve(ctx context.Context, out disk.ReserveOut) error {
	_, err := retried(func() (struct{}, error) { return struct{}{}, p.lun.Reserve(ctx, out) })
	return err
}

func probeCapabilities(ctx context.Context, p *probe, r ProbeRequest) (ProbeResult, error) {
	caps, err := retried(func() (disk.Capabilities, error) { return p.lun.Capabilities(ctx) })
	if err != nil || !caps.Reservations {
		return ProbeResult{}, err
	}
	res, err := probeKeys(ctx, p, r)
	res.Reservations, res.Persist, res.PreemptAbort = caps.Reservations, caps.Persist, caps.PreemptAbort
	return res, err
}

func probeKeys(ctx context.Context, p *probe, _ ProbeRequest) (ProbeResult, error) {
	have, err := retried(func() (disk.Reservations, error) { return p.lun.Reservations(ctx) })
	res := ProbeResult{Holder: uint64(have.Holder), Type: uint8(have.Type), Generation: have.Generation}
	for _, k := range have.Keys {
		res.Keys = append(res.Keys, uint64(k))
	}
	return res, err
}

func probeRegister(ctx context.Context, p *probe, r ProbeRequest) (ProbeResult, error) {
	err := p.reserve(ctx, disk.ReserveOut{Action: disk.RegisterIgnore, ServiceKey: disk.Key(r.Key)})
	if err == nil {
		p.key = r.Key
	}
	return ProbeResult{}, err
}

func probeReserve(ctx context.Context, p *probe, r ProbeRequest) (ProbeResult, error) {
	return ProbeResult{}, p.reserve(ctx, disk.ReserveOut{Action: disk.ReserveAction, Key: disk.Key(r.Key), Type: disk.Type(r.Type)})
}

func probePreempt(ctx context.Context, p *probe, r ProbeRequest) (ProbeResult, error) {
	return ProbeResult{}, p.reserve(ctx, disk.ReserveOut{
		Action: disk.Preempt, Key: disk.Key(r.Key), ServiceKey: disk.Key(r.Victim), Type: disk.Type(r.Type),
	})
}

func probeClear(ctx context.Context, p *probe, r ProbeRequest) (ProbeResult, error) {
	err := p.reserve(ctx, disk.ReserveOut{Action: disk.Clear, Key: disk.Key(r.Key)})
	if err == nil {
		p.key = 0
	}
	return ProbeResult{}, err
}

// probeWrite writes the last block back as it was read. Nobody else writes
// there: the LUN is free.
func probeWrite(ctx context.Context, p *probe, _ ProbeRequest) (ProbeResult, error) {
	info := p.lun.Info()
	buf := make([]byte, info.BlockSize)
	off := info.Size/int64(info.BlockSize)*int64(info.BlockSize) - int64(info.BlockSize)
	_, err := retried(func() (struct{}, error) { return struct{}{}, p.lun.ReadAt(ctx, buf, off) })
	if err == nil {
		_, err = retried(func() (struct{}, error) { return struct{}{}, p.lun.WriteAt(ctx, buf, off) })
	}
	return ProbeResult{}, err
}

// probeLatency reads single blocks spread over the LUN, one after the other.
func probeLatency(ctx context.Context, p *probe, _ ProbeRequest) (ProbeResult, error) {
	info := p.lun.Info()
	buf := make([]byte, info.BlockSize)
	blocks := info.Size / int64(info.BlockSize)
	stride := max(1, blocks/latencyReads)
	var res ProbeResult
	began := time.Now()
	for i := int64(0); i < latencyReads && i*stride < blocks && time.Since(began) < latencyTime; i++ {
		var took time.Duration
		_, err := retried(func() (struct{}, error) {
			at := time.Now()
			err := p.lun.ReadAt(ctx, buf, i*stride*int64(info.BlockSize))
			took = time.Since(at)
			return struct{}{}, err
		})
		if err != nil {
			return res, err
		}
		res.Latency = append(res.Latency, took)
	}
	slices.Sort(res.Latency)
	return res, nil
}
