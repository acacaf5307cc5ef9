package contract

import (
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/cnitest/cnitest/e2e/disk"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// Known is a deviation that the reference library of plugins in Go causes in every plugin that uses it.
type Known struct {
	Requirement string
	// Pattern matches the text of the deviation in results.
	Pattern *regexp.Regexp
	// Reason names the place in github.com/containernetworking/cni v1.3 that causes it.
	Reason string
}

// KnownUpstream returns all such deviations, each with its reason; a test of package e2e shows each on a plugin that
// does nothing.
func KnownUpstream() []Known {
	return []Known{
		{
			"VER-3", regexp.MustCompile(`^VERSION was asked at \S+ and answers cniVersion "1\.1\.0"$`),
			"skel does not read the input of VERSION and answers the newest version that it knows (pkg/version, " +
				"PluginSupports)",
		},
		{
			"EXE-2", regexp.MustCompile(`^the error object has no cniVersion$`),
			"types.Error, which skel prints, has no field for it (pkg/types)",
		},
		{
			"ENV-2", regexp.MustCompile(`does not name CNI_(CONTAINERID|IFNAME): "(invalid characters in ` +
				`containerID|interface name is too long)"$`),
			"the messages are skel's, and it refuses the call before the plugin sees it (pkg/utils)",
		},
		{
			"ENV-4", regexp.MustCompile(`without CNI_PATH: want success, got exit status 1, code 4: required env ` +
				`variables \[CNI_PATH\] missing`),
			"skel wants CNI_PATH for every verb but VERSION (pkg/skel)",
		},
		{
			"ERR-1", regexp.MustCompile(`fails with code 8, .*should not be the same`),
			"skel's own check of the namespace answers types.ErrInvalidNetNS (pkg/skel)",
		},
	}
}

// knownOf returns why a deviation is the library's fault; empty if it is the plugin's own.
func knownOf(s *Subject, requirement, text string) string {
	if !s.skel {
		return ""
	}
	for _, k := range KnownUpstream() {
		if k.Requirement == requirement && k.Pattern.MatchString(text) {
			return k.Reason
		}
	}
	return ""
}

// hostLocal is upstream's IPAM plugin, to which plugins of anybody delegate. hostLocalForgets is why one that does
// cannot keep an address from being lost.
const (
	hostLocal        = "host-local"
	hostLocalForgets = "host-local, which keeps the addresses, writes the owner of one after it made its file, " +
		"without fsync; a file that is empty belongs to nobody (containernetworking/plugins#498)"
)

// leavesToHostLocal reports whether a program is host-local, and the subject a plugin that delegates to it.
func (s *Subject) leavesToHostLocal(program string) bool {
	return program == hostLocal && s.Type != hostLocal && s.ipam == hostLocal
}

// areReservations reports whether all that stayed behind are files of host-local that hold an address.
func areReservations(left []snapshot.Change) bool {
	return len(left) > 0 && !slices.ContainsFunc(left, func(c snapshot.Change) bool {
		_, err := netip.ParseAddr(filepath.Base(c.Item.Name))
		return c.Item.Kind != snapshot.File || err != nil
	})
}

// harmedByHostLocal reports whether a power cut harmed only what host-local had written: the last writer of each file
// that is damaged, and each step that is lost, is host-local, or who was at work when everything was on the disk.
func (s *Subject) harmedByHostLocal(r *disk.Recording, d *disk.Disk) bool {
	var programs []string
	for _, i := range d.Lost {
		programs = append(programs, r.Calls[i-1].Program)
	}
	for _, damage := range d.Damaged {
		for _, c := range slices.Backward(r.Calls[:d.After]) {
			if c.Kind == disk.Write && c.Path == damage.Path || c.To == damage.Path {
				programs = append(programs, c.Program)
				break
			}
		}
	}
	if d.Whole() && d.After < len(r.Calls) {
		programs = append(programs, r.Calls[d.After].Program) // it was interrupted
	}
	return len(programs) > 0 && !slices.ContainsFunc(programs, func(p string) bool { return !s.leavesToHostLocal(p) })
}
