package coordinator

import (
	"quorate/csv"
	"quorate/csv/csvpb"
	"quorate/csv/volume"
)

func (r *request) getXattr(m *csvpb.GetXattr) (*csvpb.Response, error) {
	if err := r.wait(func() bool { return true }); err != nil {
		return nil, err
	}
	val, err := r.v.Xattr(m.Ino, string(m.Name))
	if err != nil {
		return nil, err
	}
	return &csvpb.Response{Data: val}, nil
}

func (r *request) listXattr(m *csvpb.ListXattr) (*csvpb.Response, error) {
	if err := r.wait(func() bool { return true }); err != nil {
		return nil, err
	}
	names, err := r.v.Xattrs(m.Ino)
	if err != nil {
		return nil, err
	}
	resp := &csvpb.Response{}
	for _, name := range names {
		resp.Names = append(resp.Names, []byte(name))
	}
	return resp, nil
}

func (r *request) setXattr(m *csvpb.SetXattr) (*csvpb.Response, error) {
	return r.changeXattr(m.Ino, func() (volume.Inode, error) {
		return r.v.SetXattr(m.Ino, string(m.Name), m.Value, m.Flags, r.now())
	})
}

func (r *request) removeXattr(m *csvpb.RemoveXattr) (*csvpb.Response, error) {
	return r.changeXattr(m.Ino, func() (volume.Inode, error) { return r.v.RemoveXattr(m.Ino, string(m.Name), r.now()) })
}

func (r *request) changeXattr(ino uint64, change func() (volume.Inode, error)) (*csvpb.Response, error) {
	if err := r.alone(func() []uint64 { return []uint64{ino} }); err != nil {
		return nil, err
	}
	if resp, ok := r.once(); ok {
		return resp, nil
	}
	i, err := change()
	if err != nil {
		return nil, err
	}
	return r.done(i, csv.Shared), nil
}
