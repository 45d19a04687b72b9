// Package iscsi reaches LUNs over the network as a userspace initiator (RFC
// 7143), through libiscsi. It discovers targets, lists their units and opens
// them as disk.LUN.
//
// It is called by disk/open, the validation and `san discover`. It decides
// nothing about reservations: a session that was lost is made again, and its
// first command then says so (unit attention 29/00), for the gate to judge.
//
// How it works: each opened LUN has a session of its own, and a goroutine locked
// to an OS thread that alone touches libiscsi. Commands go there by a queue in
// batches and wait in our own table; their data lies in C memory, so that a
// caller whose context ends leaves at once, whatever libiscsi still does.
//
// Traps: libiscsi's own reconnect is off, because it would repeat writes under
// another ISID. Two sessions of one initiator name, target, LUN and purpose end
// each other (session reinstatement): give each user of a LUN on a node its own
// Purpose, and know that each is a nexus with a registration of its own. Without
// cgo every function returns an error that says so.
package iscsi

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// DefaultPort is the iSCSI port (RFC 7143 section 13).
const DefaultPort = "3260"

// Defaults of Options.
const (
	DefaultTimeout      = 5 * time.Second
	DefaultResetTimeout = 60 * time.Second
)

// CHAP is authentication (RFC 7143 section 12.1.3). The zero value is none.
type CHAP struct {
	// User and Password are what this initiator shows to the target.
	User, Password string
	// PeerUser and PeerPassword are what the target must show, if any.
	PeerUser, PeerPassword string
}

// Options tell how to reach a LUN.
type Options struct {
	// URL is iscsi://host[:port]/target/lun; it stands for Portal, Target
	// and LUN. It carries no password.
	URL string
	// Portal is host[:port]. The port is 3260 unless given.
	Portal string
	// Target is the target's name (iqn., eui. or naa.).
	Target string
	// LUN is from 0 to 16383.
	LUN int
	// InitiatorName is this node's, the same on every session.
	InitiatorName string
	// Purpose tells the sessions of one initiator to one LUN apart. It goes
	// into the ISID, so the same purpose is the same nexus, also after a
	// restart of the process.
	Purpose string
	CHAP    CHAP
	// Timeout is how long a command may go unanswered before the session is
	// given up and made again, and how long a connection may take.
	Timeout time.Duration
	// ResetTimeout is the same for LOGICAL UNIT RESET, which a target may
	// answer only after it has given up a hanging initiator.
	ResetTimeout time.Duration
	// Log takes what happens to the session. Nil logs nothing.
	Log *zap.Logger
}

// EnsureDefaults resolves the URL and fills in what was left out.
func (o *Options) EnsureDefaults() error {
	if o.URL != "" {
		portal, target, lun, err := ParseURL(o.URL)
		if err != nil {
			return err
		}
		o.Portal, o.Target, o.LUN = portal, target, lun
	}
	if o.Portal != "" {
		o.Portal = withPort(o.Portal)
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.ResetTimeout == 0 {
		o.ResetTimeout = DefaultResetTimeout
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return nil
}

// Validate lists all faults of options that have their defaults.
func (o *Options) Validate() error {
	var faults []error
	fault := func(format string, a ...any) { faults = append(faults, fmt.Errorf(format, a...)) }
	if host, port, err := net.SplitHostPort(o.Portal); err != nil || host == "" || port == "" {
		fault("portal %q is not host:port", o.Portal)
	}
	if !validName(o.InitiatorName) {
		fault("initiator name %q does not begin with iqn., eui. or naa., or is longer than 223 bytes", o.InitiatorName)
	}
	if o.Target != "" && !validName(o.Target) {
		fault("target %q does not begin with iqn., eui. or naa., or is longer than 223 bytes", o.Target)
	}
	if o.LUN < 0 || o.LUN > 16383 {
		fault("LUN %d is not from 0 to 16383", o.LUN)
	}
	if o.Timeout < 100*time.Millisecond || o.Timeout > 5*time.Minute {
		fault("timeout %v is not from 100ms to 5m", o.Timeout)
	}
	if o.ResetTimeout < o.Timeout {
		fault("reset timeout %v is shorter than the timeout %v", o.ResetTimeout, o.Timeout)
	}
	for name, v := range map[string]string{"user": o.CHAP.User, "password": o.CHAP.Password, "peer user": o.CHAP.PeerUser, "peer password": o.CHAP.PeerPassword} {
		if len(v) > 255 || strings.ContainsRune(v, 0) {
			fault("CHAP %s is longer than 255 bytes or contains a zero byte", name)
		}
	}
	if o.CHAP.PeerUser != "" && o.CHAP.User == "" {
		fault("CHAP of the target needs CHAP of the initiator as well")
	}
	return errors.Join(faults...)
}

func validName(s string) bool {
	if len(s) > 223 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' }) {
		return false
	}
	return strings.HasPrefix(s, "iqn.") || strings.HasPrefix(s, "eui.") || strings.HasPrefix(s, "naa.")
}

func withPort(portal string) string {
	if _, _, err := net.SplitHostPort(portal); err == nil {
		return portal
	}
	return net.JoinHostPort(strings.Trim(portal, "[]"), DefaultPort)
}

// ParseURL takes iscsi://host[:port]/target/lun apart.
func ParseURL(s string) (portal, target string, lun int, err error) {
	bad := func(why string) (string, string, int, error) {
		return "", "", 0, fmt.Errorf("%q is not the URL of a LUN, iscsi://host:port/target/lun: %s", s, why)
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "iscsi" {
		return bad("it does not begin with iscsi://")
	}
	if u.User != nil {
		return bad("user and password are not written into it")
	}
	parts := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	if u.Host == "" || len(parts) != 2 {
		return bad("host, target and LUN are all needed")
	}
	if !validName(parts[0]) {
		return bad("the target's name does not begin with iqn., eui. or naa.")
	}
	lun, err = strconv.Atoi(parts[1])
	if err != nil || lun < 0 || lun > 16383 {
		return bad("the LUN is not a number from 0 to 16383")
	}
	return withPort(u.Host), parts[0], lun, nil
}

// URL names a LUN.
func URL(portal, target string, lun int) string {
	return fmt.Sprintf("iscsi://%s/%s/%d", withPort(portal), target, lun)
}

// isid derives the 24 and 16 bits of an ISID of the "random" format (RFC 7143
// section 11.12.5), the same for the same initiator, target, LUN and purpose.
func (o *Options) isid() (random, qualifier uint32) {
	h := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d\x00%s", o.InitiatorName, o.Target, o.LUN, o.Purpose))
	return binary.BigEndian.Uint32(h[:]) & 0xffffff, uint32(binary.BigEndian.Uint16(h[4:]))
}

// Target is what discovery found.
type Target struct {
	IQN string
	// Portals are host:port, as the target names them.
	Portals []string
}

// parseTargets reads lines of name, tab, portal, ...; a portal may end in its
// group (",1").
func parseTargets(s string) []Target {
	var out []Target
	for line := range strings.SplitSeq(s, "\n") {
		f := strings.Split(line, "\t")
		if !validName(f[0]) {
			continue
		}
		t := Target{IQN: f[0]}
		for _, p := range f[1:] {
			p, _, _ = strings.Cut(p, ",")
			if p != "" {
				t.Portals = append(t.Portals, withPort(p))
			}
		}
		out = append(out, t)
	}
	return out
}
