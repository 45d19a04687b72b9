package keeper

import (
	"context"

	"quorate/cluster/keeper/keeperpb"
	"quorate/disk"
	"quorate/disk/iscsi"
	"quorate/disk/open"
)

// openLUN opens a LUN by its URL's scheme.
func (o Options) openLUN(ctx context.Context, l *keeperpb.Lun, purpose string) (disk.LUN, error) {
	name := l.InitiatorName
	if name == "" {
		name = o.InitiatorName
	}
	return open.Open(ctx, l.Url, open.Options{
		InitiatorName: name, Purpose: purpose, Log: o.Log,
		CHAP: iscsi.CHAP{User: l.ChapUser, Password: l.ChapPassword, PeerUser: l.ChapPeerUser, PeerPassword: l.ChapPeerPassword},
	})
}
