package scenario

import (
	"cmp"
	"slices"
)

// Feature is a claim about a plugin that scenarios test.
type Feature string

// These are the features; Meaning has a sentence for each.
const (
	Attach          Feature = "Attach"
	CleanUp         Feature = "CleanUp"
	PodToPod        Feature = "PodToPod"
	HostToPod       Feature = "HostToPod"
	CrossNode       Feature = "CrossNode"
	External        Feature = "External"
	NodeIntegrity   Feature = "NodeIntegrity"
	SecondInterface Feature = "SecondInterface"
	Chaining        Feature = "Chaining"
	PodToService    Feature = "PodToService"
	NodePort        Feature = "NodePort"
	Hairpin         Feature = "Hairpin"
	DualStack       Feature = "DualStack"
	DaemonRestart   Feature = "DaemonRestart"
	CloudENIs       Feature = "CloudENIs"
	LargeDatagrams  Feature = "LargeDatagrams"
	UnderlayGroups  Feature = "UnderlayGroups"
	Capabilities    Feature = "Capabilities"
	DHCP            Feature = "DHCP"
	SeveralNetworks Feature = "SeveralNetworks"
	GivenDevices    Feature = "GivenDevices"
	Upgrade         Feature = "Upgrade"

	SurvivesLinkFlap      Feature = "SurvivesLinkFlap"
	SurvivesPortChange    Feature = "SurvivesPortChange"
	SurvivesAddressChange Feature = "SurvivesAddressChange"
	SurvivesNetworkd      Feature = "SurvivesNetworkd"
	SurvivesFirewall      Feature = "SurvivesFirewall"
	SurvivesSysctls       Feature = "SurvivesSysctls"
	SurvivesStrictARP     Feature = "SurvivesStrictARP"
	SurvivesUdev          Feature = "SurvivesUdev"

	SurvivesIptables       Feature = "SurvivesIptables"
	SurvivesOtherAgents    Feature = "SurvivesOtherAgents"
	SurvivesNetworkManager Feature = "SurvivesNetworkManager"
	SurvivesFirewalld      Feature = "SurvivesFirewalld"
	SurvivesUFW            Feature = "SurvivesUFW"

	NodeIsolation    Feature = "NodeIsolation"
	AddressIsolation Feature = "AddressIsolation"
	MACIsolation     Feature = "MACIsolation"
	VLANIsolation    Feature = "VLANIsolation"

	DaemonIsolation   Feature = "DaemonIsolation"
	MetadataIsolation Feature = "MetadataIsolation"
)

// survivals returns the features that are about what happens to nodes in production. Each claims the same: pods go on,
// or CHECK says what is gone, and the next ADD, GC or the plugin's daemon restores it, once.
func survivals() []Feature {
	return []Feature{
		SurvivesLinkFlap, SurvivesPortChange, SurvivesAddressChange, SurvivesNetworkd, SurvivesFirewall,
		SurvivesSysctls, SurvivesStrictARP, SurvivesUdev, SurvivesIptables, SurvivesOtherAgents,
		SurvivesNetworkManager, SurvivesFirewalld, SurvivesUFW,
	}
}

// Features returns all features in the order of lists.
func Features() []Feature {
	return append([]Feature{
		Attach, CleanUp, PodToPod, HostToPod, CrossNode, External, NodeIntegrity,
		SecondInterface, Chaining, PodToService, NodePort, Hairpin, DualStack, DaemonRestart, CloudENIs, LargeDatagrams,
		UnderlayGroups,
		Capabilities, DHCP, SeveralNetworks, GivenDevices,
		Upgrade,
		NodeIsolation, AddressIsolation, MACIsolation, VLANIsolation, DaemonIsolation, MetadataIsolation,
	}, survivals()...)
}

// Meaning returns the claim in one sentence; empty for an unknown feature.
func (f Feature) Meaning() string {
	switch f {
	case Attach:
		return "Every ADD gives a pod its interface and addresses that no other pod has, also many at the same time, " +
			"on a new node, and with addresses that other pods had before."
	case CleanUp:
		return "DEL removes what ADD made, however often it is called and whatever is already missing."
	case PodToPod:
		return "Pods on one node reach each other."
	case HostToPod:
		return "A node and its own pods reach each other with their own addresses."
	case CrossNode:
		return "Pods and nodes reach pods on other nodes."
	case External:
		return "Machines outside the cluster and pods reach each other with their own addresses."
	case NodeIntegrity:
		return "The node's own addresses, routes and neighbours are the same as without the plugin."
	case SecondInterface:
		return "A pod can have a second interface on the same network."
	case Chaining:
		return "Other plugins can stand before and after this one in the conflist."
	case PodToService:
		return "Pods reach the cluster address of a service, wherever its endpoints run, and addresses of their node " +
			"that are only for its own pods."
	case NodePort:
		return "Clients outside the cluster reach a service through a port of any node."
	case Hairpin:
		return "A pod reaches itself through a service of which it is an endpoint."
	case DualStack:
		return "A pod has addresses of both families, and everything works with each of them."
	case DaemonRestart:
		return "The plugin's daemon may be down, be killed and start again: pods go on, no two pods get the same " +
			"address, and no address is lost."
	case LargeDatagrams:
		return "Datagrams that are larger than the MTU arrive, in fragments."
	case UnderlayGroups:
		return "Pods receive what is sent to all machines of the underlay, by broadcast and by multicast."
	case CloudENIs:
		return "Pods use the addresses of all network interfaces that a cloud gives their node, and each address " +
			"uses its own interface."
	case DHCP:
		return "A pod leases its address from a DHCP server, keeps the lease as long as it runs and gives it back " +
			"when it ends."
	case Upgrade:
		return "Pods that one version of the plugin attached go on under another, which deletes them as well, and " +
			"the programs can be replaced at any time."
	case GivenDevices:
		return "A device that a pod got from its node comes back as it was, again and again."
	case SeveralNetworks:
		return "A pod can have this network beside another one that it was attached to first, as Multus does it, and " +
			"each goes on when the other comes and goes."
	case Capabilities:
		return "A pod gets what it asks for by a capability that the conflist declares, such as a MAC or a DNS " +
			"server, and the result lists it."
	}
	return cmp.Or(f.survival(), f.isolation())
}

// isolation returns the Meaning of the features that are about hostile pods.
func (f Feature) isolation() string {
	switch f {
	case NodeIsolation:
		return "A hostile pod has no way to harm its node through the interfaces that it was given: the node gets no " +
			"packet with another source, none to its loopback, no neighbour, address or route, and takes none for " +
			"one of another pod's connection."
	case AddressIsolation:
		return "A hostile pod cannot act under an address of another pod, of a machine of the LAN or of the gateway, " +
			"and cannot hand out addresses."
	case MACIsolation:
		return "A hostile pod cannot send with the MAC of another pod."
	case VLANIsolation:
		return "What a hostile pod sends with a VLAN tag reaches nobody."
	case DaemonIsolation:
		return "Nobody but root reaches the plugin's daemon and its files, and no pod does over the network."
	case MetadataIsolation:
		return "No pod reaches the metadata service of its node's cloud, which gives out the node's credentials."
	}
	return ""
}

// survival returns the Meaning of the features of survivals.
func (f Feature) survival() string {
	const restored = " or CHECK says what is gone, and the next ADD, GC or the plugin's daemon restores it."
	switch f {
	case SurvivesLinkFlap:
		return "When the uplink of a node goes down and up again, pods go on as before," + restored
	case SurvivesPortChange:
		return "When the uplink is a bond or a bridge and gets another link to send through, pods go on," + restored
	case SurvivesAddressChange:
		return "When a node gets other addresses, pods go on," + restored
	case SurvivesNetworkd:
		return "When systemd-networkd restarts and removes rules and routes that are not its own, pods go on," +
			restored
	case SurvivesFirewall:
		return "When the node's firewall is reloaded and its ruleset flushed, pods go on," + restored
	case SurvivesSysctls:
		return "When all sysctls are applied again, also to the interfaces of a plugin, pods go on," + restored
	case SurvivesStrictARP:
		return "When kube-proxy sets strict ARP, pods go on," + restored
	case SurvivesUdev:
		return "When udev sets the MACs of a node's links, pods go on," + restored
	case SurvivesIptables:
		return "When somebody flushes all rules of iptables, pods go on," + restored
	case SurvivesOtherAgents:
		return "When the agent of another plugin removes rules and routes that it does not know, pods go on," + restored
	case SurvivesNetworkManager:
		return "When NetworkManager manages the links that a plugin makes, pods go on," + restored
	case SurvivesFirewalld:
		return "The node's nft can list the ruleset, and when firewalld, which does so, is reloaded, pods go on," +
			restored
	case SurvivesUFW:
		return "When ufw is reloaded, pods go on," + restored
	}
	return ""
}

// Profile is a kind of plugin, with the set of features that such a plugin must have.
type Profile string

// These are the profiles. Each of the first three has all features of the one before it.
const (
	// ProfileCNI is any plugin that attaches pods.
	ProfileCNI Profile = "cni"
	// ProfileUnderlay is a plugin that puts pods on the network of the nodes; the default of a run.
	ProfileUnderlay Profile = "underlay"
	// ProfileKubernetes is an underlay plugin under which services work.
	ProfileKubernetes Profile = "kubernetes"
	// ProfileProduction is an underlay plugin whose pods survive what happens to nodes in production.
	ProfileProduction Profile = "production"
	// ProfileIsolation is a plugin that keeps hostile pods from harming others. An underlay is one flat network, which
	// no plugin that only puts pods on it can change: such a plugin claims the features that it has.
	ProfileIsolation Profile = "isolation"
)

// Profiles returns all profiles in the order of lists.
func Profiles() []Profile {
	return []Profile{ProfileCNI, ProfileUnderlay, ProfileKubernetes, ProfileProduction, ProfileIsolation}
}

// Features returns the features that the profile demands; none for an unknown profile.
func (p Profile) Features() []Feature {
	cni := []Feature{Attach, CleanUp, PodToPod}
	underlay := append(slices.Clone(cni), HostToPod, CrossNode, External, NodeIntegrity)
	switch p {
	case ProfileCNI:
		return cni
	case ProfileUnderlay:
		return underlay
	case ProfileKubernetes:
		return append(underlay, PodToService, NodePort, Hairpin)
	case ProfileProduction:
		return append(underlay, survivals()...)
	case ProfileIsolation:
		return append(cni, NodeIsolation, AddressIsolation, MACIsolation, VLANIsolation)
	}
	return nil
}

// Core reports whether the profile demands every feature of the scenario. Other scenarios are extended and count if
// claimed.
func (p Profile) Core(s *Scenario) bool {
	demanded := p.Features()
	if demanded == nil {
		return false
	}
	return !slices.ContainsFunc(s.Features, func(f Feature) bool { return !slices.Contains(demanded, f) })
}
