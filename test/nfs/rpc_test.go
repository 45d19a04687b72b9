package nfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
)

// NFS 3 needs two servers of ONC RPC (RFC 5531) beside nfsd: rpcbind, with which the
// kernel registers what it serves, on the clients too, and mountd, which gives out the handle of an export
// (RFC 1813, appendix I). These answer what is asked here, and no more.

const (
	rpcbindPort = 111
	mountdPort  = 20048
	// maxCall bounds a call, in bytes.
	maxCall = 1 << 16
)

// serveRPC answers each call with what reply returns.
func serveRPC(port int, reply func(procedure uint32) ([]byte, error)) error {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for err := error(nil); err == nil; {
					err = answerCall(c, reply)
				}
			}()
		}
	}()
	return nil
}

// answerCall reads a call of one fragment and answers it.
func answerCall(c net.Conn, reply func(uint32) ([]byte, error)) error {
	var mark [4]byte
	if _, err := io.ReadFull(c, mark[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(mark[:]) &^ (1 << 31)
	if size < 24 || size > maxCall {
		return errors.New("not a call")
	}
	call := make([]byte, size)
	if _, err := io.ReadFull(c, call); err != nil {
		return err
	}
	results, err := reply(binary.BigEndian.Uint32(call[20:]))
	if err != nil {
		return err
	}
	out := append([]byte{0, 0, 0, 0}, call[:4]...)               // the call's number
	for _, word := range []uint32{1 /* a reply */, 0, 0, 0, 0} { // accepted, no verifier, success
		out = binary.BigEndian.AppendUint32(out, word)
	}
	out = append(out, results...)
	binary.BigEndian.PutUint32(out, 1<<31|uint32(len(out)-4))
	_, err = c.Write(out)
	return err
}

// registered is rpcbind's answer to everything: yes.
func registered(uint32) ([]byte, error) { return []byte{0, 0, 0, 1}, nil }

// exported is mountd's: the handle of the export, which nfsd makes.
func exported(procedure uint32) ([]byte, error) {
	if procedure != 1 {
		return nil, nil
	}
	f, err := os.OpenFile(filepath.Join(nfsdDir, "filehandle"), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%s %s 64\n", clientsAre, exportDir); err != nil {
		return nil, err
	}
	var handle []byte
	if _, err := fmt.Fscanf(f, `\x%x`, &handle); err != nil {
		return nil, err
	}
	out := binary.BigEndian.AppendUint32(nil, 0)
	out = binary.BigEndian.AppendUint32(out, uint32(len(handle)))
	out = append(out, handle...)
	for len(out)%4 != 0 {
		out = append(out, 0)
	}
	return append(out, 0, 0, 0, 1, 0, 0, 0, 1), nil // one flavour: AUTH_SYS
}
