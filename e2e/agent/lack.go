package agent

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/fault"
)

// Lacks asks this machine for a feature, in a temporary namespace, and reports whether it answers as one without the
// feature does. Any other answer means that it has the feature, and that the caller is at fault.
func (s *Server) Lacks(feature fault.Feature, lacks *bool) error {
	return inNewNamespace(netns.New, func() error {
		err := ask(feature)
		switch feature.Kind {
		case fault.QdiscFeature, fault.FilterFeature, fault.SysctlFeature, fault.DeviceFeature,
			fault.NftExpressionFeature, fault.NftChainFeature, fault.ProgramFeature, fault.GenericNetlinkFeature:
			// An object that is found by name does not exist (sched_api.c, qdisc_create; cls_api.c, tcf_proto_create;
			// nf_tables_api.c, nft_expr_type_get; genetlink.c, ctrl_getfamily).
			*lacks = errors.Is(err, unix.ENOENT)
		default:
			*lacks = errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) ||
				errors.Is(err, unix.EAFNOSUPPORT)
		}
		return nil
	})
}

// ask makes something that needs a feature.
func ask(feature fault.Feature) error {
	switch feature.Kind {
	case fault.LinkFeature:
		parent, err := makeParent()
		if err != nil {
			return err
		}
		return netlink.LinkAdd(sampleLink("sample", feature.Name, parent))
	case fault.BridgeVLANFeature:
		filtering := true
		return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "sample"}, VlanFiltering: &filtering})
	case fault.QdiscFeature, fault.FilterFeature:
		parent, err := makeParent()
		if err != nil {
			return err
		}
		if feature.Kind == fault.QdiscFeature {
			root := netlink.QdiscAttrs{LinkIndex: parent, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
			return netlink.QdiscAdd(&netlink.GenericQdisc{QdiscAttrs: root, QdiscType: feature.Name})
		}
		ingress := netlink.QdiscAttrs{
			LinkIndex: parent, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS,
		}
		if err := netlink.QdiscAdd(&netlink.Ingress{QdiscAttrs: ingress}); err != nil {
			return nil // without a qdisc nothing can be said about the filter
		}
		at := netlink.FilterAttrs{
			LinkIndex: parent, Parent: netlink.MakeHandle(0xffff, 0), Priority: 1, Protocol: unix.ETH_P_ALL,
		}
		return netlink.FilterAdd(&netlink.GenericFilter{FilterAttrs: at, FilterType: feature.Name})
	case fault.RuleFeature:
		rule := netlink.NewRule()
		rule.Priority, rule.Table, rule.Family = 100, unix.RT_TABLE_MAIN, unix.AF_INET
		if feature.Name == "IPv6" {
			rule.Family = unix.AF_INET6
		}
		return netlink.RuleAdd(rule)
	case fault.SocketFeature:
		var family, protocol int
		if _, err := fmt.Sscanf(feature.Name, "family %d protocol %d", &family, &protocol); err != nil {
			return fmt.Errorf("socket %q: %w", feature.Name, err)
		}
		fd, err := unix.Socket(family, unix.SOCK_RAW, protocol)
		if err == nil {
			return unix.Close(fd)
		}
		return err
	case fault.GenericNetlinkFeature:
		_, err := netlink.GenlFamilyGet(feature.Name)
		return err
	case fault.NftTableFeature, fault.NftChainFeature, fault.NftExpressionFeature:
		return askNftables(feature)
	case fault.SysctlFeature, fault.DeviceFeature, fault.ProgramFeature:
		return askFiles(feature)
	}
	return fmt.Errorf("feature %q: there is no such kind", feature.Kind)
}

// askFiles looks for the file that a feature is or shows itself by.
func askFiles(feature fault.Feature) error {
	path := feature.Name
	switch feature.Kind {
	case fault.SysctlFeature:
		path = "/proc/sys/" + strings.TrimPrefix(feature.Name, "/")
	case fault.ProgramFeature:
		if _, err := exec.LookPath(feature.Name); errors.Is(err, exec.ErrNotFound) {
			return unix.ENOENT
		}
		return nil
	}
	_, err := os.Stat(path)
	return err
}
