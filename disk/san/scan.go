package san

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"quorate/disk"
	"quorate/disk/iscsi"
)

const (
	// scanTimeout bounds the listing of one target with its LUNs.
	scanTimeout = 15 * time.Second
	// scanCommand is how long one command of a scan may take.
	scanCommand = 5 * time.Second
	// scansAtOnce bounds the sessions that a scan has open at a time.
	scansAtOnce = 4
)

// scan is one target to be listed.
type scan struct {
	favourite
	portals []string
	kept    bool
}

func (s *San) list(ctx context.Context, holds bool) []Target {
	var scans []scan
	for _, f := range s.favourites() {
		scans = append(scans, scan{f, []string{f.Portal}, true})
	}
	return s.scanAll(ctx, scans, holds)
}

// scanAll lists targets, several at once, in the order given.
func (s *San) scanAll(ctx context.Context, scans []scan, holds bool) []Target {
	out := make([]Target, len(scans))
	slots := make(chan struct{}, scansAtOnce)
	var wg sync.WaitGroup
	for i, sc := range scans {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			out[i] = s.scanOne(ctx, sc, holds)
		})
	}
	wg.Wait()
	return out
}

func (s *San) scanOne(ctx context.Context, sc scan, holds bool) Target {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	t := Target{IQN: sc.Target, Portals: sc.portals, Favourite: sc.kept}
	var faults []error
	infos, err := iscsi.List(ctx, iscsi.Options{
		Portal: sc.Portal, Target: sc.Target, InitiatorName: s.name, Purpose: "scan", CHAP: sc.CHAP.chap(), Timeout: scanCommand, Log: s.opt.Log,
	})
	if err != nil {
		faults = append(faults, err)
	}
	for _, info := range infos {
		l := LUN{Info: info}
		if holds {
			if l.Holds, err = s.holds(ctx, info.URL, sc.CHAP); err != nil {
				l.Holds = "unreadable"
				faults = append(faults, err)
			}
		}
		t.LUNs = append(t.LUNs, l)
	}
	if err := errors.Join(faults...); err != nil {
		t.Error = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return t
}

var scansBegun atomic.Uint64

// holds reads what lies on a LUN.
func (s *San) holds(ctx context.Context, url string, c secret) (string, error) {
	lun, err := iscsi.Open(ctx, iscsi.Options{
		URL: url, InitiatorName: s.name, Purpose: fmt.Sprintf("scan/%d/%d", os.Getpid(), scansBegun.Add(1)),
		CHAP: c.chap(), Timeout: scanCommand, Log: s.opt.Log,
	})
	if err != nil {
		return "", err
	}
	defer lun.Close()
	return retried(func() (string, error) { return s.opt.Holds(ctx, lun) })
}

// attentions bounds how often a command is repeated after a unit attention.
const attentions = 4

// retried repeats what a unit attention kept from being performed.
func retried[T any](do func() (T, error)) (T, error) {
	var v T
	var err error
	for range attentions {
		v, err = do()
		var ua *disk.AttentionError
		if !errors.As(err, &ua) {
			break
		}
	}
	return v, err
}

// unique lists the LUNs of targets, each once by its identity.
func unique(targets []Target) ([]LUN, error) {
	var out []LUN
	var faults []error
	seen := map[string]bool{}
	for _, t := range targets {
		if t.Error != "" {
			faults = append(faults, fmt.Errorf("target %s: %s", t.IQN, t.Error))
		}
		for _, l := range t.LUNs {
			id := l.ID
			if id == "" {
				id = l.URL
			}
			if !seen[id] {
				seen[id] = true
				out = append(out, l)
			}
		}
	}
	slices.SortFunc(out, func(a, b LUN) int { return strings.Compare(a.URL, b.URL) })
	return out, errors.Join(faults...)
}
