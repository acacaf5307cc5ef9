package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// xtFamily describes the layout of one family's legacy tables in memory: struct ipt_entry and ip6t_entry of
// include/uapi/linux/netfilter_ipv4/ip_tables.h and netfilter_ipv6/ip6_tables.h.
type xtFamily struct {
	word   string
	domain int
	level  int
	// names lists the existing tables. Asking for one that does not exist would create it.
	names string
	// addr is the length of an address, entry that of an entry without matches. proto, flags (followed by the inverse
	// flags) and target (the offset of the target, followed by that of the next entry) are offsets.
	addr, proto, flags, target, entry int
	gotoFlag                          byte
}

var xtFamilies = [...]xtFamily{
	{
		word: "ip", domain: unix.AF_INET, level: unix.SOL_IP, names: "/proc/thread-self/net/ip_tables_names", addr: 4,
		proto: 80, flags: 82, target: 88, entry: 112, gotoFlag: 0x02,
	},
	{
		word: "ip6", domain: unix.AF_INET6, level: unix.SOL_IPV6, names: "/proc/thread-self/net/ip6_tables_names",
		addr: 16, proto: 128, flags: 131, target: 140, entry: 168, gotoFlag: 0x04,
	},
}

// The options of struct ipt_getinfo and ipt_get_entries, the same for both families.
const (
	xtGetInfo    = 64
	xtGetEntries = 65

	xtTableName  = 32 // XT_TABLE_MAXNAMELEN
	xtInfoSize   = 84 // sizeof(struct ipt_getinfo)
	xtEntriesAt  = 40 // offsetof(struct ipt_get_entries, entrytable)
	xtHooks      = 5  // NF_INET_NUMHOOKS
	xtHeaderSize = 32 // sizeof(struct xt_entry_match), and of xt_entry_target
	xtNameSize   = 29 // XT_EXTENSION_MAXNAMELEN
	xtDrop       = -1 // -NF_DROP - 1
	xtAccept     = -2 // -NF_ACCEPT - 1
	xtReturn     = -5 // XT_RETURN
	xtErrorName  = "ERROR"
)

// xtChains are the built-in chains by hook.
var xtChains = [xtHooks]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}

// takeIptables reads the legacy tables of both families.
func takeIptables() ([]object, error) {
	var objects []object
	for _, family := range xtFamilies {
		names, err := os.ReadFile(family.names)
		if errors.Is(err, os.ErrNotExist) {
			// The kernel has none.
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, table := range strings.Fields(string(names)) {
			rules, err := family.take(table)
			if err != nil {
				return nil, fmt.Errorf("%s table %s: %w", family.word, table, err)
			}
			objects = append(objects, rules...)
		}
	}
	return objects, nil
}

// take reads a table. It reads again if the table changed between the request of its size and that of its entries.
func (f xtFamily) take(table string) ([]object, error) {
	fd, err := unix.Socket(f.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for range attempts {
		info := make([]byte, xtInfoSize)
		copy(info[:xtTableName-1], table)
		if err := getsockopt(fd, f.level, xtGetInfo, info); err != nil {
			return nil, fmt.Errorf("get info: %w", err)
		}
		size := binary.NativeEndian.Uint32(info[xtInfoSize-4:])
		entries := make([]byte, xtEntriesAt+int(size))
		copy(entries[:xtTableName-1], table)
		binary.NativeEndian.PutUint32(entries[xtTableName:], size)
		err := getsockopt(fd, f.level, xtGetEntries, entries)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("get entries: %w", err)
		}
		return f.parse(table, info, entries[xtEntriesAt:])
	}
	return nil, fmt.Errorf("table changed %d times while it was read", attempts)
}

// getsockopt reads an option of any size; x/sys supports only some sizes.
func getsockopt(fd, level, option int, b []byte) error {
	size := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// xtEntry is an entry of a table.
type xtEntry struct {
	offset int
	spec   words
	// jump is the option before the target; target is its name, empty for a verdict; data is the content of the target.
	jump   string
	target string
	data   []byte
}

// verdict returns the number in a standard target.
func (e xtEntry) verdict() int32 {
	return int32(binary.NativeEndian.Uint32(e.data))
}

// parse makes an item of each chain and of each rule, in the form of `iptables -S`.
func (f xtFamily) parse(table string, info, blob []byte) ([]object, error) {
	valid := binary.NativeEndian.Uint32(info[xtTableName:])
	hooks, policies := map[int]string{}, map[int]bool{}
	for hook, chain := range xtChains {
		if valid&(1<<hook) == 0 {
			continue
		}
		at := xtTableName + 4 + 4*hook
		hooks[int(binary.NativeEndian.Uint32(info[at:]))] = chain
		policies[int(binary.NativeEndian.Uint32(info[at+4*xtHooks:]))] = true
	}
	entries, err := f.entries(blob)
	if err != nil {
		return nil, err
	}
	// A user-defined chain begins with an ERROR entry that contains its name. The last entry is one too, but begins no
	// chain.
	chains := map[int]string{}
	for i, e := range entries[:max(0, len(entries)-1)] {
		if e.target == xtErrorName {
			chains[entries[i+1].offset] = cString(e.data)
		}
	}
	var objects []object
	prefix, chain, numbers := f.word+" "+table+" ", "", map[string]int{}
	for i, e := range entries[:max(0, len(entries)-1)] {
		if name, ok := hooks[e.offset]; ok {
			chain = name
		}
		if name, ok := chains[e.offset]; ok {
			chain = name
			objects = append(objects, object{
				Item:   Item{Name: prefix + "chain " + chain, Text: "-"},
				remove: func() error { return f.removeChain(table, name) },
			})
		}
		// The kernel requires each user-defined chain to end with a verdict of its own, which iptables appends.
		last := entries[i+1].target == xtErrorName
		switch {
		case e.target == xtErrorName, last && e.target == "" && e.verdict() == xtReturn:
		case policies[e.offset]:
			objects = append(objects, object{
				Item: Item{Name: prefix + "chain " + chain, Text: xtVerdict(e.verdict(), chains)},
			})
		default:
			numbers[chain]++
			in, number := chain, numbers[chain]
			objects = append(objects, object{
				Item:   Item{Name: prefix + "rule " + chain, Text: f.ruleText(e, chains)},
				remove: func() error { return f.removeRule(table, in, number) },
			})
		}
	}
	return objects, nil
}

func (f xtFamily) ruleText(e xtEntry, chains map[int]string) string {
	w := slices.Clone(e.spec)
	if e.target == "" {
		w.add(e.jump, xtVerdict(e.verdict(), chains))
		return w.String()
	}
	w.add("-j", e.target)
	w.addf(len(e.data) > 0, "0x%x", e.data)
	return w.String()
}

// xtVerdict returns the text of a standard target: a negative number is a verdict of netfilter, others are offsets of
// chains.
func xtVerdict(verdict int32, chains map[int]string) string {
	switch verdict {
	case xtAccept:
		return "ACCEPT"
	case xtDrop:
		return "DROP"
	case xtReturn:
		return "RETURN"
	}
	if chain, ok := chains[int(verdict)]; ok {
		return chain
	}
	return fmt.Sprint(verdict)
}

// entries splits a table into its entries.
func (f xtFamily) entries(blob []byte) ([]xtEntry, error) {
	var entries []xtEntry
	for at := 0; at < len(blob); {
		if len(blob)-at < f.entry {
			return nil, fmt.Errorf("entry at %d: want %d bytes, got %d", at, f.entry, len(blob)-at)
		}
		target := int(binary.NativeEndian.Uint16(blob[at+f.target:]))
		next := int(binary.NativeEndian.Uint16(blob[at+f.target+2:]))
		if target < f.entry || next < target+xtHeaderSize || next > len(blob)-at {
			return nil, fmt.Errorf("entry at %d: target at %d and end at %d do not fit", at, target, next)
		}
		entry := blob[at : at+next]
		e := xtEntry{offset: at, spec: f.spec(entry), jump: "-j"}
		if entry[f.flags]&f.gotoFlag != 0 {
			e.jump = "-g"
		}
		for match := f.entry; match+xtHeaderSize <= target; {
			name, info, size := xtExtension(entry[match:target])
			if size < xtHeaderSize {
				return nil, fmt.Errorf("match of entry at %d: want %d bytes, got %d", at, xtHeaderSize, size)
			}
			e.spec.add("-m", name)
			e.spec.addf(len(info) > 0, "0x%x", info)
			match += size
		}
		var size int
		e.target, e.data, size = xtExtension(entry[target:])
		if e.target == "" {
			if size < xtHeaderSize+4 {
				return nil, fmt.Errorf("verdict of entry at %d: want %d bytes, got %d", at, xtHeaderSize+4, size)
			}
			// Zeros are part of the verdict.
			e.data = entry[target+xtHeaderSize : target+size]
		}
		entries = append(entries, e)
		at += next
	}
	return entries, nil
}

// xtExtension reads a match or target (struct xt_entry_match): its size, its name with revision, and its data, without
// zeros at the end.
func xtExtension(b []byte) (name string, info []byte, size int) {
	size = min(int(binary.NativeEndian.Uint16(b)), len(b))
	name = cString(b[2 : 2+xtNameSize])
	if revision := b[2+xtNameSize]; revision != 0 {
		name = fmt.Sprintf("%s/%d", name, revision)
	}
	if size < xtHeaderSize {
		return name, nil, size
	}
	return name, bytes.TrimRight(b[xtHeaderSize:size], "\x00"), size
}

// cString returns the text up to the first zero byte.
func cString(b []byte) string {
	text, _, _ := bytes.Cut(b, []byte{0})
	return string(text)
}

// spec returns what an entry itself matches (struct ipt_ip and ip6t_ip6): addresses, interfaces, protocol, flags.
func (f xtFamily) spec(entry []byte) words {
	var w words
	// IPT_INV_VIA_IN and so on; both families have the same bits.
	flags, inverse := entry[f.flags], entry[f.flags+1]
	add := func(bit byte, option string) {
		w.addf(inverse&bit != 0, "!")
		w.add(option)
	}
	src, dst := entry[0:f.addr], entry[f.addr:2*f.addr]
	srcMask, dstMask := entry[2*f.addr:3*f.addr], entry[3*f.addr:4*f.addr]
	if !zero(srcMask) {
		add(0x08, "-s "+(&net.IPNet{IP: src, Mask: srcMask}).String())
	}
	if !zero(dstMask) {
		add(0x10, "-d "+(&net.IPNet{IP: dst, Mask: dstMask}).String())
	}
	ifaces := entry[4*f.addr:]
	for i, option := range []string{"-i", "-o"} {
		name, mask := cString(ifaces[i*16:i*16+16]), ifaces[32+i*16:48+i*16]
		if name == "" {
			continue
		}
		if mask[len(name)] == 0 {
			name += "+"
		}
		add(1<<i, option+" "+name)
	}
	if proto := binary.NativeEndian.Uint16(entry[f.proto:]); proto != 0 {
		add(0x40, fmt.Sprintf("-p %d", proto))
	}
	if f.domain == unix.AF_INET && flags&0x01 != 0 {
		add(0x20, "-f")
	}
	w.addf(f.domain == unix.AF_INET6 && flags&0x02 != 0, "tos %#x", entry[f.flags-1])
	return w
}

// zero reports whether all bits of b are zero.
func zero(b []byte) bool {
	return len(bytes.Trim(b, "\x00")) == 0
}
