package snapshot

import (
	"regexp"
	"sync"
)

// ignorable is a change that the kernel makes on its own and that belongs to no plugin.
type ignorable struct {
	Kind string
	// Pattern matches the part that Diff removes from "NAME: TEXT" before it compares. An item of which nothing remains
	// is not compared at all.
	Pattern *regexp.Regexp
	// Reason says how it changes without a plugin.
	Reason string
}

// ignored is the table of what Diff ignores. Each row was observed, and is observed again by TestIgnored. Values that
// change constantly, such as counters and the remaining lifetime of an address, are in no text in the first place.
var ignored = sync.OnceValue(func() []ignorable {
	return []ignorable{
		{Link, regexp.MustCompile(`,LOWER_UP\b`), "the carrier comes and goes with the other end of a veth, a node away"},
		{Link, regexp.MustCompile(` state \S+`), "the operational state follows the carrier, that of a macvlan some milliseconds behind its parent's"},
		{
			Address, regexp.MustCompile(` (tentative|optimistic)\b`),
			"duplicate address detection ends 1 to 2 s after an IPv6 address is added; dadfailed, how it may end, is " +
				"compared",
		},
		{Route, regexp.MustCompile(` (linkdown|dead)\b`), "every route of a link says that its carrier is gone"},
		{
			Route, regexp.MustCompile(`^(local|anycast) \S*:\S* table local .*proto kernel.*$`),
			"IPv6 adds the local route of an address when duplicate address detection ends; the address itself is " +
				"compared",
		},
		{Route, regexp.MustCompile(`^multicast ff00::/8 table local .*proto kernel.*$`), "IPv6 adds it to a link that is up when the carrier comes"},
		{Sysctl, regexp.MustCompile(`^net\.netfilter\.nf_conntrack_count: .*$`), "the number of connections, which end by timers"},
		{Nftables, regexp.MustCompile(`^element .* timeout$`), "an element with a timeout goes when its time is over"},
	}
})

// essence returns the part of an item that is compared; empty if there is none.
func essence(item Item) string {
	text := line(item.Name, item.Text)
	for _, i := range ignored() {
		if i.Kind == item.Kind {
			text = i.Pattern.ReplaceAllString(text, "")
		}
	}
	return text
}
