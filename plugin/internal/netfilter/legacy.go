package netfilter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unsafe"

	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// legacyFamily says how the legacy iptables tables of one family are read: by socket options, as iptables does.
type legacyFamily struct {
	names              string // lists the tables that exist: a request for another one would create it
	domain, level      int
	links, head        int // the offset of the links in an entry, and of the offsets to its target and the next entry
	size               int // of an entry without matches
	chain, description string
}

func legacyFamilies() []legacyFamily {
	return []legacyFamily{
		{"/proc/thread-self/net/ip_tables_names", unix.AF_INET, unix.IPPROTO_IP, 16, 88, 112, "FORWARD", "iptables-legacy"},
		{"/proc/thread-self/net/ip6_tables_names", unix.AF_INET6, unix.IPPROTO_IPV6, 64, 140, 168, "FORWARD", "ip6tables-legacy"},
	}
}

const (
	getInfo     = 64 // IPT_SO_GET_INFO
	getEntries  = 65 // IPT_SO_GET_ENTRIES
	forwardHook = 2  // NF_INET_FORWARD

	verdictDrop   = -1 // as in standard targets: -NF_DROP-1
	verdictAccept = -2
)

// tableInfo is struct ipt_getinfo.
type tableInfo struct {
	Name       [32]byte
	ValidHooks uint32
	HookEntry  [5]uint32
	Underflow  [5]uint32
	NumEntries uint32
	Size       uint32
}

func (f Forwarding) legacyDrops() ([]string, error) {
	var drops []string
	for _, family := range legacyFamilies() {
		names, err := os.ReadFile(family.names)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without legacy iptables
		}
		if err != nil {
			return drops, err
		}
		if !slices.Contains(strings.Fields(string(names)), "filter") {
			continue
		}
		t, err := readLegacy(family)
		if err != nil {
			return drops, fmt.Errorf("%s: table filter: %w", family.description, err)
		}
		if t.drops(f) {
			drops = append(drops, fmt.Sprintf("chain %s of table filter of %s", family.chain, family.description))
		}
	}
	return drops, nil
}

// legacyTable is a table as the kernel keeps it: entries one after the other. A chain is an offset into them.
type legacyTable struct {
	legacyFamily
	tableInfo
	entries []byte
}

func readLegacy(family legacyFamily) (*legacyTable, error) {
	fd, err := unix.Socket(family.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	t := &legacyTable{legacyFamily: family}
	raw := make([]byte, binary.Size(t.tableInfo))
	copy(raw, "filter")
	if err := getsockopt(fd, family.level, getInfo, raw); err != nil {
		return nil, err
	}
	if _, err := binary.Decode(raw, binary.NativeEndian, &t.tableInfo); err != nil {
		return nil, err
	}
	head := 40 // struct ipt_get_entries: the name and the size, aligned to 8
	raw = make([]byte, head+int(t.Size))
	copy(raw, "filter")
	binary.NativeEndian.PutUint32(raw[32:], t.Size)
	if err := getsockopt(fd, family.level, getEntries, raw); err != nil {
		return nil, err // EAGAIN if somebody changed it in between
	}
	t.entries = raw[head:]
	return t, nil
}

func getsockopt(fd, level, option int, value []byte) error {
	size := uint32(len(value))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&value[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// drops reports whether the policy of the chain is to drop, and no rule before it may accept the packet.
func (t *legacyTable) drops(f Forwarding) bool {
	return t.verdict(int(t.Underflow[forwardHook])) == verdictDrop &&
		!t.mayAccept(f, int(t.HookEntry[forwardHook]), map[int]bool{})
}

// at returns a part of the entries. What is beyond their end is zero.
func (t *legacyTable) at(offset, length int) []byte {
	part := make([]byte, length)
	if offset < len(t.entries) {
		copy(part, t.entries[offset:])
	}
	return part
}

func (t *legacyTable) short(offset int) int {
	return int(binary.NativeEndian.Uint16(t.at(offset, 2)))
}

// target returns the name of an entry's target and the verdict of a standard target: a decision if it is below zero,
// else the offset of a chain.
func (t *legacyTable) target(entry int) (name string, verdict int) {
	target := entry + t.short(entry+t.head)
	text, _, _ := bytes.Cut(t.at(target+2, 29), []byte{0})
	if len(text) > 0 {
		return string(text), 0
	}
	return "", int(int32(binary.NativeEndian.Uint32(t.at(target+32, 4))))
}

func (t *legacyTable) verdict(entry int) int {
	_, verdict := t.target(entry)
	return verdict
}

// mayAccept follows the packet through a chain. A chain ends with an entry that decides for every packet.
func (t *legacyTable) mayAccept(f Forwarding, entry int, seen map[int]bool) bool {
	for !seen[entry] && entry < len(t.entries) {
		seen[entry] = true
		name, verdict := t.target(entry)
		if name == "ERROR" {
			return false // the head of the next chain
		}
		if name == "" && !t.excludes(f, entry) {
			switch {
			case verdict == verdictAccept:
				return true
			case verdict >= 0 && t.mayAccept(f, verdict, seen):
				return true
			}
		}
		if entry == int(t.Underflow[forwardHook]) {
			return false
		}
		entry += t.short(entry + t.head + 2)
	}
	return false
}

// excludes reports whether an entry does not match the packet, because of its links or of properties that the first
// packet of a connection lacks.
func (t *legacyTable) excludes(f Forwarding, entry int) bool {
	names := t.at(entry+t.links, 64)
	in, out := legacyPattern(names[:16], names[32:48]), legacyPattern(names[16:32], names[48:64])
	if in.text != "" && !f.mayEnter(in) || out.text != "" && !f.mayLeave(out) {
		return true
	}
	const head = 32 // of a match
	for match, end := entry+t.size, entry+t.short(entry+t.head); match < end; match += t.short(match) {
		if t.short(match) < head {
			return false
		}
		name, _, _ := bytes.Cut(t.at(match+2, 29), []byte{0})
		info, err := xt.Unmarshal(string(name), xt.TableFamily(t.domain), uint32(t.at(match+31, 1)[0]),
			t.at(match+head, t.short(match)-head))
		if err == nil && excludesMatch(string(name), info) {
			return true
		}
	}
	return false
}

// legacyPattern reads a name and its mask. The mask of a whole name covers the terminating zero.
func legacyPattern(name, mask []byte) namePattern {
	text, _, _ := bytes.Cut(name, []byte{0})
	return namePattern{text: string(text), prefix: len(text) < len(mask) && mask[len(text)] == 0}
}
