package e2e

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"al.essio.dev/pkg/shellescape"

	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/internal/soak"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/service"
)

// Command returns the command line of cnitest that repeats the result of an id, alone if that is possible; with an
// empty id the whole run. more has further words, for what Options do not contain: the backend and the file of the
// target.
func (o *Options) Command(id string, more ...string) string {
	words := slices.Concat([]string{"cnitest", "run", o.Conflist, "--bin-dir", o.BinDir}, more,
		[]string{"--profile", string(cmp.Or(o.Profile, scenario.ProfileUnderlay))})
	add := func(flag, value string, when bool) {
		if when {
			words = append(words, "--"+flag, value)
		}
	}
	add("old-bin-dir", o.OldBinDir, o.OldBinDir != "")
	add("implementation-version", o.ImplementationVersion, o.ImplementationVersion != "")
	add("network", o.Network, o.Network != "")
	for _, subnet := range o.Nodes.Subnets {
		add("subnet", subnet.String(), true)
	}
	for _, gateway := range o.Nodes.Gateways {
		add("gateway", gateway.String(), true)
	}
	add("plugin", strings.Join(o.Plugins, ","), len(o.Plugins) > 0)
	var claims []string
	for _, f := range o.Claims {
		claims = append(claims, string(f))
	}
	add("features", strings.Join(claims, ","), claims != nil)
	add("cni-version", o.CNIVersion, o.CNIVersion != "")
	add("uplink", o.Nodes.Uplink, o.Nodes.Uplink != "")
	add("uplink-kind", o.Nodes.UplinkKind, o.Nodes.UplinkKind != "" && o.Nodes.UplinkKind != "veth")
	add("nics", strconv.Itoa(o.Nodes.NICs), o.Nodes.NICs > 1)
	if o.Nodes.RPFilter != nil {
		add("rp-filter", strconv.Itoa(*o.Nodes.RPFilter), *o.Nodes.RPFilter != 2)
	}
	add("dataplane", o.Nodes.Dataplane, o.Nodes.Dataplane != "" && o.Nodes.Dataplane != service.Nftables)
	if id == "" && o.Soak.For > 0 {
		id = soak.ID
	}
	switch id {
	case "":
		words = o.whole(words)
	case soak.ID:
		add("soak", o.Soak.For.String(), true)
		add("soak-pods", strconv.Itoa(o.Soak.Pods), o.Soak.Pods != 0 && o.Soak.Pods != soak.DefaultPods)
	case contract.FirstAttachment:
		// The first attachment is made whatever is selected.
	case leavesNothingID:
		// Residue is looked for after every scenario.
		add("scenario", o.Select.Names, o.Select.Names != "")
	default:
		if token := o.Select.Replay; token != nil && id == token.Requirement() {
			add("replay", token.String(), true)
			break
		}
		add("scenario", id, true)
		r := contract.Find(id)
		add("seed", strconv.FormatUint(o.Select.Seed, 10), r != nil && r.Sampled() && o.Select.Seed != 1)
		if r != nil && o.Select.Deep && (r.Sampled() || r.Sweeps()) {
			words = append(words, "--deep")
		}
	}
	return shellescape.QuoteCommand(words)
}

// whole adds to the words of a command line what selects the tests of the run.
func (o *Options) whole(words []string) []string {
	if o.Select.Replay != nil {
		return append(words, "--replay", o.Select.Replay.String())
	}
	if o.Select.Names != "" {
		words = append(words, "--scenario", o.Select.Names)
	}
	if o.Select.Quick {
		words = append(words, "--quick")
	}
	if o.Select.Deep {
		words = append(words, "--deep")
	}
	if o.Select.Seed > 1 {
		words = append(words, "--seed", strconv.FormatUint(o.Select.Seed, 10))
	}
	return words
}
