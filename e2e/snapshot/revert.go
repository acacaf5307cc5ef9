package snapshot

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/containernetworking/plugins/pkg/ns"
)

// ErrGone is the error if the object of a change no longer exists, or is not as the change left it.
var ErrGone = errors.New("not there any more as the change left it")

// lastingItem matches added items that Revert cannot remove: those of a kind whose "NAME: TEXT" matches the pattern.
type lastingItem struct {
	kind    string
	pattern *regexp.Regexp
	reason  string
}

var lasting = sync.OnceValue(func() []lastingItem {
	return []lastingItem{
		{Namespace, regexp.MustCompile(``), "a namespace belongs to the runtime that made it"},
		{Process, regexp.MustCompile(``), "processes of one command line look alike, and another's must not end"},
		{Sysctl, regexp.MustCompile(``), "a sysctl comes and goes with a link"},
		{File, regexp.MustCompile(`: deleted$`), "it stands for a file that was removed"},
		{
			Qdisc,
			regexp.MustCompile(`^dev \S+ (root|ingress|parent \S+): \S+$`),
			"the kernel gives a link a qdisc of its own",
		},
		{Nftables, regexp.MustCompile(`^element .* end$`), "the end of an interval goes with its start"},
		{Group, regexp.MustCompile(``), "the program that added a multicast address holds it"},
		{Zone, regexp.MustCompile(``), "a zone ends with its connections"},
		{Qdisc, regexp.MustCompile(`^action `), "a filter may hold an action"},
		{Route, regexp.MustCompile(`^mpls `), "the netlink library needs more of a label than an item holds"},
		{Label, regexp.MustCompile(``), "the netlink library does not support address labels"},
		{Iptables, regexp.MustCompile(`^\S+ \S+ chain \S+: [^-]`), "a legacy table stays as long as its namespace"},
	}
})

// Revertible returns the reason why Revert cannot undo a change, or nil if it can. It reads nothing except the change.
//
// Added items can be removed, with few exceptions. Removed items cannot be restored: an item does not contain
// everything that it was made of. Of changed items, sysctls, settings of links and a qdisc that replaced the kernel's
// own can be restored.
func Revertible(change Change) error {
	item := change.Item
	switch {
	case change.Op == Added:
		for _, l := range lasting() {
			if l.kind == item.Kind && l.pattern.MatchString(line(item.Name, item.Text)) {
				return errors.New(l.reason)
			}
		}
		return nil
	case change.Op != Changed:
		return errors.New("an item does not contain everything that is needed to make it again")
	case item.Kind == Sysctl:
		return nil
	case item.Kind == Link:
		return resettable(item.Text, change.Before)
	case item.Kind == Qdisc && strings.Contains(item.Text, " handle ") && !strings.Contains(change.Before, " handle "):
		return nil
	}
	return fmt.Errorf("a text does not contain everything that is needed to change a %s back", item.Kind)
}

// Revert undoes one change that Diff reported, and nothing else except what the kernel removes along with it: the
// addresses of a link, the chains of a table. It looks up the change's scope in opts.Namespaces. Files must be below
// opts.Files, and are removed by the item's path. It ignores opts.Kinds.
//
// It acts on the object that a State would show as the change's item, the last one if several are equal, and returns
// ErrGone if there is none; parts that ignored names are not compared. An added link or permanent neighbour is
// recognised by its name only, since hardware addresses are often random.
//
// Directories must be empty, chains and sets unused. Rules of iptables' legacy tables need the iptables program. In the
// upper layer of an overlay a changed file appears as an added one, and removing it also removes the file of the lower
// layer. It may be called concurrently.
func Revert(ctx context.Context, change Change, opts Options) error {
	err := Revertible(change)
	if err == nil {
		err = revertIn(ctx, change, opts)
	}
	if err == nil {
		return nil
	}
	w := words{"revert"}
	w.addf(change.Item.Scope != "", "%s", change.Item.Scope)
	w.add(change.Item.Kind, change.Item.Name)
	return fmt.Errorf("%s: %w", w, err)
}

// revertIn reverts in the scope of the change.
func revertIn(ctx context.Context, change Change, opts Options) error {
	if change.Item.Scope == "" {
		// Sockets, /proc/sys/net and /proc/thread-self belong to the thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		return revert(ctx, change, opts)
	}
	path, ok := opts.Namespaces[change.Item.Scope]
	if !ok {
		return fmt.Errorf("scope %q: want the path of its namespace", change.Item.Scope)
	}
	err := ns.WithNetNSPath(path, func(ns.NetNS) error { return revert(ctx, change, opts) })
	if errors.As(err, &ns.NSPathNotExistErr{}) || errors.As(err, &ns.NSPathNotNSErr{}) {
		return ErrGone
	}
	return err
}

// revert reverts in the calling thread's namespaces.
func revert(ctx context.Context, change Change, opts Options) error {
	n, err := openNetwork()
	if err != nil {
		return err
	}
	defer n.handle.Close()
	opts.Kinds = []string{change.Item.Kind}
	objects, err := n.read(ctx, opts)
	if err != nil {
		return err
	}
	if change.Item.Scope == "" {
		rest, err := readNode(ctx, opts)
		if err != nil {
			return err
		}
		objects = append(objects, rest...)
	}
	for _, o := range slices.Backward(objects) {
		if !change.made(o.Item) {
			continue
		}
		if change.Op == Added {
			return o.remove()
		}
		return o.restore(change.Before)
	}
	return ErrGone
}

// made reports whether an item is the one that a change left.
func (c Change) made(item Item) bool {
	if item.Kind != c.Item.Kind || item.Name != c.Item.Name {
		return false
	}
	named := item.Kind == Link || item.Kind == Neighbour && item.Text != proxyText && c.Item.Text != proxyText
	return essence(item) == essence(c.Item) || c.Op == Added && named
}
