package server

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
	"github.com/cnitest/cnitest/plugin/ipamd/rpc"
)

// FuzzRequest checks that every request gets an answer or an error, and that the state can be restored afterwards.
func FuzzRequest(f *testing.F) {
	for _, m := range []proto.Message{add("a"), del("a"), &rpc.GCRequest{}, &rpc.GetAssignmentRequest{}} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		store := datastore.New(datastore.Options{})
		store.Sync([]datastore.ENI{{ID: "eni-1", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}}})
		opts := Options{
			Store: store, Commits: &commits{}, Network: func() Network { return Network{} },
			Warnings: func() []string { return nil }, Changed: func() {},
			Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		}
		b, n := &backend{opts: opts}, &node{opts: opts}
		ctx := context.Background()
		ask(data, func(in *rpc.AddNetworkRequest) { _, _ = b.AddNetwork(ctx, in) })
		ask(data, func(in *rpc.DelNetworkRequest) { _, _ = b.DelNetwork(ctx, in) })
		ask(data, func(in *rpc.GCRequest) { _, _ = n.GC(ctx, in) })
		ask(data, func(in *rpc.GetAssignmentRequest) { _, _ = n.GetAssignment(ctx, in) })
		state, _ := store.Snapshot()
		if err := datastore.New(datastore.Options{}).Restore(state); err != nil {
			t.Errorf("the state after the request: %v", err)
		}
	})
}

// ask makes a call if data is a request of it.
func ask[T any, M interface {
	*T
	proto.Message
}](data []byte, call func(M),
) {
	in := M(new(T))
	if proto.Unmarshal(data, in) == nil {
		call(in)
	}
}
