// Package bench compares ipamd's datastore with that of amazon-vpc-cni-k8s, in turn in one run. It is a separate
// module, so that no other package depends on amazon's modules.
//
// Run: go test -run xxx -bench . ./... in this folder.
package bench

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	amazon "github.com/aws/amazon-vpc-cni-k8s/pkg/ipamd/datastore"
	"github.com/aws/amazon-vpc-cni-k8s/pkg/utils/logger"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/state"
)

var sizes = []int{10, 100, 1_000, 10_000}

// BenchmarkMemory assigns and releases one address while all others are taken, without a disk.
func BenchmarkMemory(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("addresses=%d/of=ipamd", n), func(b *testing.B) {
			ours(b, n, func(uint64) error { return nil })
		})
		b.Run(fmt.Sprintf("addresses=%d/of=amazon", n), func(b *testing.B) { theirs(b, n, amazon.NullCheckpoint{}) })
	}
}

// BenchmarkDisk does the same with each assignment and release on disk before the next one begins.
func BenchmarkDisk(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("addresses=%d/of=ipamd", n), func(b *testing.B) {
			file, _, err := state.Open(filepath.Join(b.TempDir(), "state.json"), "boot")
			if err != nil {
				b.Fatal(err)
			}
			defer file.Close()
			store := newStore(n)
			commits := state.NewCommits(state.Options{Source: store, Saver: file})
			fillAndRun(b, store, n, func(version uint64) error { return commits.Commit(context.Background(), version) })
		})
		b.Run(fmt.Sprintf("addresses=%d/of=amazon", n), func(b *testing.B) {
			theirs(b, n, &switched{to: amazon.NewJSONFile(filepath.Join(b.TempDir(), "ipam.json"))})
		})
	}
}

func newStore(n int) *datastore.Store {
	store := datastore.New(datastore.Options{})
	eni := datastore.ENI{ID: "eni-0"}
	for i := range n {
		eni.Addresses = append(eni.Addresses, address(i))
	}
	store.Sync([]datastore.ENI{eni})
	return store
}

func address(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }

func ours(b *testing.B, n int, commit func(uint64) error) { fillAndRun(b, newStore(n), n, commit) }

func fillAndRun(b *testing.B, store *datastore.Store, n int, commit func(uint64) error) {
	key := func(container string) datastore.Key {
		return datastore.Key{Network: "net", ContainerID: container, IfName: "eth0"}
	}
	for i := range n - 1 {
		if _, _, err := store.Assign(key(fmt.Sprint(i)), datastore.Pod{
			Namespace: "ns", Name: fmt.Sprint(i),
		}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		_, version, err := store.Assign(key("bench"), datastore.Pod{Namespace: "ns", Name: "bench"})
		if err == nil {
			err = commit(version)
		}
		if err != nil {
			b.Fatal(err)
		}
		_, _, version = store.Release(key("bench"))
		if err := commit(version); err != nil {
			b.Fatal(err)
		}
	}
}

// switched is a checkpoint that does nothing until it is switched on, so that filling a store takes no time.
type switched struct {
	to amazon.Checkpointer
	on bool
}

func (s *switched) Checkpoint(data any) error {
	if !s.on {
		return nil
	}
	return s.to.Checkpoint(data)
}

func (s *switched) Restore(into any) error { return s.to.Restore(into) }

func theirs(b *testing.B, n int, checkpoint amazon.Checkpointer) {
	b.Setenv("IP_COOLDOWN_PERIOD", "0")
	log := logger.New(&logger.Configuration{LogLevel: "FATAL", LogLocation: "stderr"})
	store := amazon.NewDataStore(log, checkpoint, false, 0)
	if err := store.AddENI("eni-0", 0, true, false, false, 254, "subnet-0"); err != nil {
		b.Fatal(err)
	}
	for i := range n {
		if err := store.AddIPv4CidrToStore("eni-0", net.IPNet{IP: address(i).AsSlice(), Mask: net.CIDRMask(32, 32)},
			false); err != nil {
			b.Fatal(err)
		}
	}
	key := func(container string) amazon.IPAMKey {
		return amazon.IPAMKey{NetworkName: "net", ContainerID: container, IfName: "eth0"}
	}
	for i := range n - 1 {
		if _, _, _, err := store.AssignPodIPv4Address(key(fmt.Sprint(i)), amazon.IPAMMetadata{
			K8SPodNamespace: "ns", K8SPodName: fmt.Sprint(i),
		}); err != nil {
			b.Fatal(err)
		}
	}
	if s, ok := checkpoint.(*switched); ok {
		s.on = true
	}
	for b.Loop() {
		if _, _, _, err := store.AssignPodIPv4Address(key("bench"), amazon.IPAMMetadata{
			K8SPodNamespace: "ns", K8SPodName: "bench",
		}); err != nil {
			b.Fatal(err)
		}
		if _, _, _, _, _, err := store.UnassignPodIPAddress(key("bench")); err != nil {
			b.Fatal(err)
		}
	}
}
