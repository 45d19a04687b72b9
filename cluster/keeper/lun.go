package keeper

import (
	"context"
	"fmt"
	"strings"

	"quorate/cluster/keeper/keeperpb"
	"quorate/disk"
	"quorate/disk/iscsi"
)

// openLUN opens a LUN by its URL's scheme.
func (o Options) openLUN(ctx context.Context, l *keeperpb.Lun, purpose string) (disk.LUN, error) {
	name := l.InitiatorName
	if name == "" {
		name = o.InitiatorName
	}
	if strings.HasPrefix(l.Url, "iscsi://") {
		return iscsi.Open(ctx, iscsi.Options{
			URL: l.Url, InitiatorName: name, Purpose: purpose, Log: o.Log,
			CHAP: iscsi.CHAP{User: l.ChapUser, Password: l.ChapPassword, PeerUser: l.ChapPeerUser, PeerPassword: l.ChapPeerPassword},
		})
	}
	return nil, fmt.Errorf("%q is not the URL of a LUN: it must begin with iscsi://", l.Url)
}
