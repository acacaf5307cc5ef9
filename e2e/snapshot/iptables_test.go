package snapshot

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// xtBuilder builds a legacy table, entry by entry.
type xtBuilder struct {
	xtFamily
	blob    []byte
	entries uint32
}

// add appends an entry and returns its offset. spec fills in what it matches.
func (b *xtBuilder) add(target []byte, match []byte, spec func(entry []byte)) uint32 {
	entry := make([]byte, b.entry)
	if spec != nil {
		spec(entry)
	}
	binary.NativeEndian.PutUint16(entry[b.target:], uint16(len(entry)+len(match)))
	binary.NativeEndian.PutUint16(entry[b.target+2:], uint16(len(entry)+len(match)+len(target)))
	at := len(b.blob)
	b.blob = append(append(append(b.blob, entry...), match...), target...)
	b.entries++
	return uint32(at)
}

// extension returns a match or target with its data, in the length that the kernel requires.
func extension(name string, revision byte, data []byte) []byte {
	b := make([]byte, xtHeaderSize, xtHeaderSize+len(data)+7)
	b = append(b, data...)
	b = b[:(len(b)+7)&^7]
	binary.NativeEndian.PutUint16(b, uint16(len(b)))
	copy(b[2:], name)
	b[2+xtNameSize] = revision
	return b
}

func verdict(number int32) []byte {
	return extension("", 0, binary.NativeEndian.AppendUint32(nil, uint32(number)))
}

func errorTarget(chain string) []byte {
	name := make([]byte, 30)
	copy(name, chain)
	return extension(xtErrorName, 0, name)
}

// fill writes the filter table: a policy, rules in FORWARD, a user-defined chain.
func (b *xtBuilder) fill(tb testing.TB) {
	tb.Helper()
	fd, err := unix.Socket(b.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	check(tb, err)
	defer unix.Close(fd)
	const rule = 40 // the size of a standard target
	input := b.add(verdict(xtAccept), nil, nil)
	// Four more entries and the head of the chain follow, and then the rule that FORWARD jumps to.
	head := 5 * (b.entry + rule)
	chain := head + b.entry + len(errorTarget(""))
	forward := b.add(verdict(int32(chain)), nil, func(entry []byte) {
		copy(entry, []byte{10})
		copy(entry[2*b.addr:], []byte{255})
		copy(entry[4*b.addr:], "eth")
		copy(entry[4*b.addr+32:], "\xff\xff\xff")
		binary.NativeEndian.PutUint16(entry[b.proto:], unix.IPPROTO_TCP)
	})
	b.add(verdict(xtDrop), nil, func(entry []byte) {
		copy(entry[b.addr:], []byte{192, 168})
		copy(entry[3*b.addr:], []byte{255, 255})
		entry[b.flags+1] = 0x10
	})
	policy := b.add(verdict(xtDrop), nil, nil)
	output := b.add(verdict(xtAccept), nil, nil)
	if got := b.add(errorTarget("CNI-FORWARD"), nil, nil); int(got) != head {
		tb.Fatalf("chain: got offset %d, want %d", got, head)
	}
	mark := extension("mark", 1, []byte{0, 0x40, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0})
	b.add(verdict(xtAccept), mark, nil)
	b.add(verdict(xtReturn), nil, nil)
	b.add(errorTarget("ERROR"), nil, nil)
	b.replace(tb, fd, [...]uint32{0, input, forward, output, 0}, [...]uint32{0, input, policy, output, 0})
}

// replace sets the filter table (struct ipt_replace).
func (b *xtBuilder) replace(tb testing.TB, fd int, hooks, underflows [xtHooks]uint32) {
	tb.Helper()
	request := make([]byte, xtTableName)
	copy(request, "filter")
	for _, n := range append(append([]uint32{0b01110, b.entries, uint32(len(b.blob))}, hooks[:]...), underflows[:]...) {
		request = binary.NativeEndian.AppendUint32(request, n)
	}
	info := make([]byte, xtInfoSize)
	copy(info, "filter")
	check(tb, getsockopt(fd, b.level, xtGetInfo, info))
	before := binary.NativeEndian.Uint32(info[xtInfoSize-8:])
	request = binary.NativeEndian.AppendUint32(request, before)
	counters := make([]byte, 16*before)
	request = binary.NativeEndian.AppendUint64(request, uint64(uintptr(unsafe.Pointer(&counters[0]))))
	request = append(request, b.blob...)
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(b.level), 64,
		uintptr(unsafe.Pointer(&request[0])), uintptr(len(request)), 0)
	if errno != 0 {
		tb.Fatalf("replace table filter: %v", errno)
	}
}

func TestTakeIptables(t *testing.T) {
	for _, tt := range []struct {
		family xtFamily
		want   []string
	}{
		{xtFamilies[0], []string{
			"+ iptables ip filter chain CNI-FORWARD: -",
			"+ iptables ip filter chain FORWARD: DROP",
			"+ iptables ip filter chain INPUT: ACCEPT",
			"+ iptables ip filter chain OUTPUT: ACCEPT",
			"+ iptables ip filter rule CNI-FORWARD: -m mark/1 0x004000000040 -j ACCEPT",
			"+ iptables ip filter rule FORWARD: ! -d 192.168.0.0/16 -j DROP",
			"+ iptables ip filter rule FORWARD: -s 10.0.0.0/8 -i eth+ -p 6 -j CNI-FORWARD",
		}},
		{xtFamilies[1], []string{
			"+ iptables ip6 filter chain CNI-FORWARD: -",
			"+ iptables ip6 filter chain FORWARD: DROP",
			"+ iptables ip6 filter chain INPUT: ACCEPT",
			"+ iptables ip6 filter chain OUTPUT: ACCEPT",
			"+ iptables ip6 filter rule CNI-FORWARD: -m mark/1 0x004000000040 -j ACCEPT",
			"+ iptables ip6 filter rule FORWARD: ! -d c0a8::/16 -j DROP",
			"+ iptables ip6 filter rule FORWARD: -s a00::/8 -i eth+ -p 6 -j CNI-FORWARD",
		}},
	} {
		t.Run(tt.family.word, func(t *testing.T) {
			isolate(t)
			opts := Options{Kinds: []string{Iptables}}
			before := take(t, opts)
			if len(before.Items) != 0 {
				t.Fatalf("got %q in a new namespace, want nothing", texts(before.Items))
			}
			if again := take(t, opts); len(again.Items) != 0 {
				t.Fatalf("got %q, want that looking makes no table", texts(again.Items))
			}
			b := &xtBuilder{xtFamily: tt.family}
			b.fill(t)
			if diff := cmp.Diff(lines(Diff(before, take(t, opts))), tt.want); diff != "" {
				t.Errorf("changes (-got +want):\n%s", diff)
			}
		})
	}
}

func TestXtEntries(t *testing.T) {
	f := xtFamilies[0]
	short := make([]byte, f.entry+xtHeaderSize)
	binary.NativeEndian.PutUint16(short[f.target:], uint16(f.entry))
	for _, tt := range []struct {
		name    string
		next    int
		size    int
		wantErr string
	}{
		{"cut off", 0, 20, "entry at 0: want 112 bytes, got 20"},
		{"without end", 0, len(short), "entry at 0: target at 112 and end at 0 do not fit"},
		{"end outside", 4000, len(short), "entry at 0: target at 112 and end at 4000 do not fit"},
		{"no verdict", len(short), len(short), "verdict of entry at 0: want 36 bytes, got 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			binary.NativeEndian.PutUint16(short[f.target+2:], uint16(tt.next))
			_, err := f.entries(short[:tt.size])
			if err == nil || err.Error() != tt.wantErr {
				t.Errorf("got error %v, want %s", err, tt.wantErr)
			}
		})
	}
}
