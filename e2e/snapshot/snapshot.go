// Package snapshot reads the state of a node, or of any network namespace, and compares two such states: it shows what
// a plugin made, changed or left behind. It only reads the kernel and files, changes nothing, and needs no external
// binary. The exception is Revert, which undoes one change.
//
// It is not a monitor: it sees two moments and nothing in between. It does not compare the order of nftables rules in a
// chain, conntrack entries, learned neighbours and forwarding entries, multicast groups that the kernel joins by
// itself, cgroups (nodes made from namespaces have none), and extended attributes of files.
//
// Its tests make their own namespaces and need root:
//
//	go test ./e2e/snapshot
package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"slices"

	"github.com/containernetworking/plugins/pkg/ns"
	"golang.org/x/sync/errgroup"
)

// The kinds of items. Kinds describes each.
const (
	// Another network namespace as a whole. It exists as long as its path leads to one, and is always taken.
	Namespace = "namespace"
	Link      = "link"
	Address   = "address"
	Route     = "route"
	Rule      = "rule"
	Neighbour = "neighbour" // permanent entries and proxies
	Qdisc     = "qdisc"     // with classes, filters and actions
	Nftables  = "nftables"
	Iptables  = "iptables" // the legacy tables; tables of iptables-nft are seen as Nftables
	Sysctl    = "sysctl"   // below net
	// The smaller tables of a network, which few plugins write to.
	Forwarding = "fdb"       // entries written into the forwarding tables of bridges and links
	Group      = "multicast" // addresses and entries of bridges' multicast tables that somebody added
	Nexthop    = "nexthop"   // objects that routes refer to
	Xfrm       = "xfrm"      // states and policies of IPsec
	IPSet      = "ipset"
	Label      = "addrlabel" // of IPv6
	Zone       = "conntrack" // zones in which connections are tracked, other than the default one
	Mount      = "mount"
	Process    = "process"
	File       = "file"
)

// State is a snapshot, sorted by Scope, Kind, Name and Text.
type State struct {
	Items []Item `json:"items"`
}

// Item is an object of a node. Name, a colon and Text read as one line; several items may share a name (two equal
// mounts, the rules of a chain).
type Item struct {
	// Scope is empty for the node itself, otherwise the label of another network namespace.
	Scope string `json:"scope,omitempty"`
	Kind  string `json:"kind"`
	// Name identifies the item within the kind. It contains names of devices, since indexes differ between runs.
	Name string `json:"name"`
	// Text contains everything else that is known, in the words of ip, tc, nft, iptables, findmnt or ls. Items of the
	// same name are equal if their texts are.
	Text string `json:"text"`
}

// Options say what Take reads.
type Options struct {
	// Namespaces are further network namespaces by scope label. If a path does not lead to a namespace (any more), the
	// state lacks it; that is not an error.
	Namespaces map[string]string
	// Files are walked completely, and every file is read.
	Files []FileTree
	// Kinds restricts the state to these kinds; empty means all.
	Kinds []string
}

// FileTree is a tree of files: the upper layer of an overlay, or a directory such as /var/lib/cni.
type FileTree struct {
	// Name is the path shown for the root of FS.
	Name string
	FS   fs.FS
}

// wants reports whether kind must be taken.
func (o Options) wants(kind string) bool {
	return len(o.Kinds) == 0 || slices.Contains(o.Kinds, kind)
}

// object is an item with the functions by which Revert can change it. The functions must be called on the thread that
// read the object, while the network in which it was read is open.
type object struct {
	Item
	// remove removes it; nil if that is impossible.
	remove func() error
	// restore changes its text back to an earlier one; nil if that is impossible.
	restore func(before string) error
}

// itemsOf returns the items of objects.
func itemsOf(objects []object) []Item {
	items := make([]Item, 0, len(objects))
	for _, o := range objects {
		items = append(items, o.Item)
	}
	return items
}

// reader reads the objects of one kind.
type reader struct {
	kind string
	read func() ([]object, error)
}

// Take reads the state of the calling thread's network, mount and PID namespaces and of the further network namespaces.
// It may be called concurrently. Mounts and processes are read below /proc, which must belong to the PID namespace.
func Take(ctx context.Context, opts Options) (State, error) {
	scopes := slices.Sorted(maps.Keys(opts.Namespaces))
	parts := make([][]Item, len(scopes)+1)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.NumCPU())
	for i, scope := range scopes {
		group.Go(func() error {
			items, err := takeScope(ctx, scope, opts.Namespaces[scope], opts)
			if err != nil {
				return fmt.Errorf("snapshot of %s: %w", scope, err)
			}
			parts[i] = items
			return nil
		})
	}
	own, ownErr := takeNode(ctx, opts)
	parts[len(scopes)] = own
	if err := errors.Join(ownErr, group.Wait()); err != nil {
		return State{}, err
	}
	state := State{Items: slices.Concat(parts...)}
	slices.SortFunc(state.Items, compare)
	return state, nil
}

// takeNode reads the thread's own namespaces and the files.
func takeNode(ctx context.Context, opts Options) ([]Item, error) {
	// Sockets, /proc/sys/net and /proc/thread-self belong to the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	items, err := takeNetwork(ctx, opts)
	if err != nil {
		return nil, err
	}
	rest, err := readNode(ctx, opts)
	return append(items, itemsOf(rest)...), err
}

// readNode reads everything that a node has besides its network.
func readNode(ctx context.Context, opts Options) ([]object, error) {
	return readAll(ctx, opts, nodeReaders(ctx, opts))
}

// nodeReaders returns a reader for each kind of a node.
func nodeReaders(ctx context.Context, opts Options) []reader {
	return []reader{
		{Mount, takeMounts},
		{Process, takeProcesses},
		{File, func() ([]object, error) { return takeFiles(ctx, opts.Files) }},
	}
}

// takeScope reads the network namespace at path, labelled as scope.
func takeScope(ctx context.Context, scope, path string, opts Options) ([]Item, error) {
	var items []Item
	err := ns.WithNetNSPath(path, func(ns.NetNS) (err error) {
		items, err = takeNetwork(ctx, opts)
		return err
	})
	if errors.As(err, &ns.NSPathNotExistErr{}) || errors.As(err, &ns.NSPathNotNSErr{}) {
		return nil, nil
	}
	items = append(items, Item{Kind: Namespace, Name: "network"})
	for i := range items {
		items[i].Scope = scope
	}
	return items, err
}

// readAll returns the objects of all wanted readers.
func readAll(ctx context.Context, opts Options, readers []reader) ([]object, error) {
	var objects []object
	for _, r := range readers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !opts.wants(r.kind) {
			continue
		}
		seen, err := r.read()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", r.kind, err)
		}
		for i := range seen {
			seen[i].Kind = r.kind
		}
		objects = append(objects, seen...)
	}
	return objects, nil
}

// compare compares items in the order of a State.
func compare(a, b Item) int {
	return cmp.Or(compareKey(a, b), cmp.Compare(a.Text, b.Text))
}

// compareKey compares items by what identifies them.
func compareKey(a, b Item) int {
	return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}
