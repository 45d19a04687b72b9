//go:build cgo

package iscsi

// #include "conn.h"
import "C"

import (
	"sync/atomic"
	"time"
	"unsafe"

	"quorate/disk/scsi"
)

// request is a command on its way to the thread and back.
type request struct {
	lun   int
	cdb   [16]byte
	cdbN  int
	dir   scsi.Direction
	buf   unsafe.Pointer // C memory of n bytes, or nil
	n     int
	reset bool
	bound uint64 // the session that it may be performed on; 0 any
	// deadline is when the path is given up for lack of an answer.
	deadline time.Time
	state    atomic.Int32
	done     chan outcome // has room for one
}

// outcome is what became of a request. buf is the caller's to give back.
type outcome struct {
	err      error
	result   scsi.Result
	response int // of a task management function
	buf      unsafe.Pointer
}

// A request's states: whoever changes it from waiting decides who gives the
// outcome's buffer back.
const (
	waiting int32 = iota
	finished
	abandoned
)

// finish hands the outcome over, or its buffer back where nobody waits any more.
func (r *request) finish(o outcome) {
	if r.state.CompareAndSwap(waiting, finished) {
		r.done <- o
		return
	}
	giveBuffer(o.buf)
}

// drop frees the data of a request that was never submitted.
func (r *request) drop() {
	giveBuffer(r.buf)
	r.buf = nil
}

// giveBuffer gives memory of C back; nil is none.
func giveBuffer(buf unsafe.Pointer) { C.q_give_buf((*C.uchar)(buf)) }
