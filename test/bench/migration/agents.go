package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"

	"quorate/migration"
	"quorate/migration/agent"
	"quorate/migration/migrationpb"
	"quorate/resources/vm"
)

// agents moves the guest as the product does, over TLS on the loopback, with a
// switch that is committed at once.
func agents(trust bool) func(context.Context, *bench) (figures, error) {
	return func(ctx context.Context, b *bench) (figures, error) {
		conf, err := selfSigned()
		if err != nil {
			return figures{}, err
		}
		l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
		if err != nil {
			return figures{}, err
		}
		var target *vm.Machine
		arrived := make(chan migration.TargetOutcome, 1)
		server, err := agent.NewServer(agent.ServerConfig{
			Prepare: func(ctx context.Context, _ *migrationpb.Offer) (agent.QEMU, error) {
				m, err := b.hosts[1-b.at].StartIncoming(ctx, b.settings, b.folder)
				target = m
				return m, err
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
		s, err := agent.NewSource(agent.SourceConfig{
			ID: "bench", Offer: &migrationpb.Offer{Vm: "guest"}, Machine: b.machine, TrustQEMU: trust,
			Dial: func(ctx context.Context) (net.Conn, error) {
				d := tls.Dialer{Config: conf}
				return d.DialContext(ctx, "tcp", l.Addr().String())
			},
			Switch: func(context.Context) (migration.Answer, error) { return migration.AnswerCommitted, nil },
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
		return figures{total: r.Total, pause: r.Pause, bytes: r.Bytes}, nil
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

// selfSigned is a configuration for both ends.
func selfSigned() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs:      pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS13, DynamicRecordSizingDisabled: true,
	}, nil
}
