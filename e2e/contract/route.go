package contract

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/snapshot"
)

// describe returns a route of a result in words.
func describe(r *types.Route) string {
	text := r.Dst.String()
	if r.GW != nil {
		text += " via " + r.GW.String()
	}
	if r.Table != nil && *r.Table != unix.RT_TABLE_MAIN {
		text += fmt.Sprintf(" table %d", *r.Table)
	}
	for _, a := range attributes(r) {
		text += " " + a.String()
	}
	return text
}

// attribute is an attribute of a route, with its names in results and in the tools of the kernel.
type attribute struct {
	name, kernel string
	value        int
}

func (a attribute) String() string { return fmt.Sprintf("%s %d", a.name, a.value) }

// attributes returns the attributes that a route of a result can have besides destination and gateway (SPEC.md, section
// 5, routes).
func attributes(r *types.Route) []attribute {
	all := []attribute{{"mtu", "mtu", r.MTU}, {"advmss", "advmss", r.AdvMSS}, {"priority", "metric", r.Priority}}
	return slices.DeleteFunc(all, func(a attribute) bool { return a.value == 0 })
}

// routeDeviation says what the routes of a pod lack of a route of the result; empty if they have everything.
func routeDeviation(items []snapshot.Item, pod string, r *types.Route) string {
	closest := -1
	var lacks []string
	for _, item := range items {
		if item.Scope != pod || !leads(item, r) {
			continue
		}
		words := routeWords(item)
		var missing []string
		for _, a := range attributes(r) {
			if wordAfter(words, a.kernel) != strconv.Itoa(a.value) {
				missing = append(missing, a.String())
			}
		}
		if closest < 0 || len(missing) < closest {
			closest, lacks = len(missing), missing
		}
	}
	switch {
	case closest < 0:
		return "the pod has not"
	case closest > 0:
		return "that of the pod has no " + strings.Join(lacks, " and no ")
	}
	return ""
}

// leads reports whether an item of a pod's state is a route to the destination of a route of the result. A gateway that
// the result leaves out may be the one of the address (SPEC.md, section 5, ips).
func leads(item snapshot.Item, r *types.Route) bool {
	if item.Kind != snapshot.Route {
		return false
	}
	destination := r.Dst.String()
	if ones, _ := r.Dst.Mask.Size(); ones == 0 && r.Dst.IP.To4() != nil {
		destination = "default"
	}
	table := "main"
	if r.Table != nil && *r.Table != unix.RT_TABLE_MAIN {
		table = strconv.Itoa(*r.Table)
	}
	words := routeWords(item)
	return words[0] == destination && wordAfter(words, "table") == table &&
		(r.GW == nil || wordAfter(words, "via") == r.GW.String())
}

func routeWords(item snapshot.Item) []string { return strings.Fields(item.Name + " " + item.Text) }

// wordAfter returns the word after another one; empty if there is none.
func wordAfter(words []string, word string) string {
	if i := slices.Index(words, word); i >= 0 && i+1 < len(words) {
		return words[i+1]
	}
	return ""
}
