package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/plugin/ipamd/rpc"
)

// CHECK notices that ipamd does not hold the pod's address, and changes nothing there, whatever the answer.
func TestCheck_assignment(t *testing.T) {
	l := newLab(t, enis()[:1]...)
	l.start()
	p, q := l.pod("p"), l.pod("q")
	l.mustAdd(p)
	check := func(want string) {
		t.Helper()
		before := l.holdings()
		wantError(t, l.check(p, nil), want)
		if diff := cmp.Diff(before, l.holdings()); diff != "" {
			t.Errorf("ipamd after CHECK (-want +got):\n%s", diff)
		}
	}
	check("")
	l.forget(p)
	check("999: ipamd at " + l.socket() + " holds no address for this attachment, want 10.0.0.30")
	l.remember(p) // the other of the two addresses, which was released earlier
	check("999: ipamd at " + l.socket() + " holds another address for this attachment: want 10.0.0.30 of table 254, " +
		"got 10.0.0.31 of table 254")
	l.forget(p)
	l.remember(p)
	check("")
	l.forget(p)
	l.remember(q)
	l.remember(l.pod("r")) // the last one
	check("999: ipamd at " + l.socket() + " holds no address for this attachment, want 10.0.0.30")
}

// holdings returns ipamd's state on disk, the addresses that it shows, and how many calls that change something it has
// answered. A file that is written again counts as changed, even if its content is the same.
func (l *lab) holdings() []string {
	l.t.Helper()
	file := filepath.Join(l.dir, "state.json")
	info, err := os.Stat(file)
	if err != nil {
		l.t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		l.t.Fatal(err)
	}
	held := []string{
		string(content), fmt.Sprint(info.ModTime(), info.Sys().(*syscall.Stat_t).Ino),
		l.shown("/v1/assignments"), l.shown("/v1/enis"),
	}
	for _, line := range strings.Split(l.shown("/metrics"), "\n") {
		if strings.HasPrefix(line, "ipamd_requests_total") && !strings.Contains(line, `method="GetAssignment"`) {
			held = append(held, line)
		}
	}
	return held
}

// Answers of a daemon from elsewhere, or of an older version of this repository's daemon.
func TestCheck_replies(t *testing.T) {
	l := newLab(t)
	l.start()
	p := l.pod("p")
	l.mustAdd(p)
	l.kill()
	if err := os.Remove(l.socket()); err != nil {
		t.Fatal(err)
	}
	f := &fakeDaemon{}
	l.fake(f)
	for _, tt := range []struct {
		name  string
		reply *rpc.GetAssignmentReply
		want  string
	}{
		{"as it should be", &rpc.GetAssignmentReply{Found: true, Address: "10.0.0.30", RouteTableId: 254}, ""},
		{"no such call", nil, "999: ipamd at SOCKET: look up the address: method GetAssignment not implemented"},
		{"no address", &rpc.GetAssignmentReply{Found: true}, "999: ipamd at SOCKET: look up the address: ParseAddr(\"\"): unable to parse IP"},
		{"words", &rpc.GetAssignmentReply{Found: true, Address: "ten"}, "999: ipamd at SOCKET: look up the address: ParseAddr(\"ten\"): unable to parse IP"},
		{
			"another table", &rpc.GetAssignmentReply{
				Found: true, Address: "10.0.0.30", DeviceNumber: 2, RouteTableId: 3,
			},
			"999: ipamd at SOCKET holds another address for this attachment: want 10.0.0.30 of table 254, got 10.0.0.30 of table 3",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.assignment = tt.reply
			wantError(t, l.check(p, nil), strings.ReplaceAll(tt.want, "SOCKET", l.socket()))
		})
	}
	if diff := cmp.Diff([]string(nil), f.requests); diff != "" {
		t.Errorf("asked for more than to look (-want +got):\n%s", diff)
	}
}
