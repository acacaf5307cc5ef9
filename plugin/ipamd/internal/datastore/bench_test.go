package datastore

import (
	"fmt"
	"net/netip"
	"testing"
)

// BenchmarkStore assigns and releases while all but one of n addresses are taken.
func BenchmarkStore(b *testing.B) {
	for _, n := range []int{10, 100, 1_000, 10_000} {
		b.Run(fmt.Sprintf("addresses=%d", n), func(b *testing.B) {
			s := New(Options{})
			eni := ENI{ID: "eni-0"}
			for ip := netip.MustParseAddr("10.0.0.1"); len(eni.Addresses) < n; ip = ip.Next() {
				eni.Addresses = append(eni.Addresses, ip)
			}
			s.Sync([]ENI{eni})
			for i := range n - 1 {
				if _, _, err := s.Assign(key(fmt.Sprint(i)), Pod{}); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if _, _, err := s.Assign(key("bench"), Pod{}); err != nil {
					b.Fatal(err)
				}
				s.Release(key("bench"))
			}
		})
	}
}
