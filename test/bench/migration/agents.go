package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"

	"quorate/migration"
	"quorate/migration/agent"
	"quorate/migration/migrationpb"
	"quorate/resources/vm"
)

// agents moves the guest as the product does, over TLS on the loopback, with a
// switch that is committed at once.
func agents(trust bool, how migration.Carriage) func(context.Context, *bench) (figures, error) {
	return func(ctx context.Context, b *bench) (figures, error) {
		l, err := tls.Listen("tcp", "127.0.0.1:0", b.tls)
		if err != nil {
			return figures{}, err
		}
		var target *vm.Machine
		arrived := make(chan migration.TargetOutcome, 1)
		server, err := agent.NewServer(agent.ServerConfig{
			Prepare: func(ctx context.Context, _ *migrationpb.Offer) (agent.QEMU, error) {
				m, err := b.hosts[1-b.at].StartIncoming(ctx, b.settings, b.folder)
				if err != nil {
					return nil, err
				}
				target = m
				return m, b.follow(m)
			},
			Owner: func(context.Context, string, *migrationpb.Offer) (migration.Owner, error) {
				return migration.OwnerPeer, nil
			},
			Finished: func(_ *migrationpb.Offer, o migration.TargetOutcome, _ string) { arrived <- o },
		})
		if err != nil {
			return figures{}, err
		}
		var wg sync.WaitGroup
		wg.Go(func() { serve(l, server, &wg) })
		defer func() {
			_ = l.Close() // ends serve
			server.Close()
			wg.Wait()
		}()
		var f figures
		var spent error
		base, err := used(ctx, b.machine)
		if err != nil {
			return figures{}, err
		}
		s, err := agent.NewSource(agent.SourceConfig{
			ID: "bench", Offer: &migrationpb.Offer{Vm: "guest"}, Machine: b.machine, TrustQEMU: trust, Carriage: how,
			Dial: func(ctx context.Context) (net.Conn, error) {
				d := tls.Dialer{Config: b.tls}
				return d.DialContext(ctx, "tcp", l.Addr().String())
			},
			Switch: func(ctx context.Context) (migration.Answer, error) {
				var err error
				f.cpu, err = used(ctx, b.machine)
				spent = err
				return migration.AnswerCommitted, nil
			},
		})
		if err != nil {
			return figures{}, err
		}
		r := s.Run(ctx)
		if r.Outcome != migration.Moved {
			return figures{}, fmt.Errorf("ended as %v: %s", r.Outcome, r.Reason)
		}
		<-arrived
		b.arrived(target)
		there, err := used(ctx, target)
		f.total, f.pause, f.bytes, f.cpu = r.Total, r.Pause, r.Bytes, f.cpu-base+there
		return f, errors.Join(spent, err)
	}
}

func serve(l net.Listener, s *agent.Server, wg *sync.WaitGroup) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		wg.Go(func() { s.Accept(c) })
	}
}
