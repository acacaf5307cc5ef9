package cloud

import (
	"net/netip"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
)

// Pool says how the addresses of the machine are used, and withdraws addresses that are to be returned to the cloud.
type Pool interface {
	ENIs() []datastore.ENIUsage
	Withdraw(addrs []netip.Addr) []netip.Addr
	WithdrawENI(id string) bool
}

// Targets say how many addresses are kept available. Names and meanings are those of amazon-vpc-cni-k8s.
type Targets struct {
	// WarmIP is WARM_IP_TARGET, the number of free addresses to keep. 0 means that WarmENI decides, unless MinimumIP is
	// set.
	WarmIP int
	// MinimumIP is MINIMUM_IP_TARGET, the number of addresses to have, free or not. 0 means no minimum.
	MinimumIP int
	// WarmENI is WARM_ENI_TARGET: keep as many free addresses as this number of full ENIs has. It is used only if the
	// other two are 0.
	WarmENI int
}
