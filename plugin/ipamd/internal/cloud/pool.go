package cloud

import (
	"net/netip"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
)

// Pool says how the addresses of the machine are used, and releases those that are to be given back.
type Pool interface {
	ENIs() []datastore.ENIUsage
	Withdraw(addrs []netip.Addr) []netip.Addr
	WithdrawENI(id string) bool
}

// Targets say how many addresses are kept available, with the names and meaning of amazon-vpc-cni-k8s.
type Targets struct {
	// WarmIP is WARM_IP_TARGET: so many addresses are free. 0 means that WarmENI decides, unless MinimumIP is set.
	WarmIP int
	// MinimumIP is MINIMUM_IP_TARGET: so many addresses are there, free or not. 0 means no minimum.
	MinimumIP int
	// WarmENI is WARM_ENI_TARGET: the addresses of so many full ENIs are free. It counts only where the others are 0.
	WarmENI int
}
