package offer

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/cni"
)

// infinibandMAC is the length of the hardware address of an IPoIB interface, whose last 8 bytes are its GUID (RFC 4391,
// section 9.1.1).
const infinibandMAC = 20

// Check returns an error for each capability whose value an attachment does not have: in the result of ADD, or, if it
// is a hardware address, in the kernel, where the pod's interface has the given one. It does not check values that a
// result does not contain, such as rates and ports.
func (o *Offer) Check(result *cni.Result, ifName, hardware string) error {
	var errs []error
	differ := func(capability string, want, got any, where string) {
		errs = append(errs, fmt.Errorf("the capability %s asks for %s, and %s %v", capability, want, where, got))
	}
	for _, name := range slices.Sorted(maps.Keys(o.Capabilities)) {
		switch value := o.Capabilities[name]; name {
		case "mac":
			want, _ := value.(string)
			if !strings.EqualFold(hardware, want) {
				differ(name, want, hardware, ifName+" has")
			}
			for _, iface := range inPod(result, ifName) {
				if !strings.EqualFold(iface.Mac, want) {
					differ(name, want, iface.Mac, "the result says")
				}
			}
		case "infinibandGUID":
			want, _ := value.(string)
			if mac, err := net.ParseMAC(hardware); err == nil && len(mac) == infinibandMAC &&
				!strings.EqualFold(mac[infinibandMAC-8:].String(), want) {
				differ(name, want, hardware, ifName+" has the hardware address")
			}
		case "deviceID":
			want, _ := value.(string)
			for _, iface := range inPod(result, ifName) {
				if iface.PciID != "" && iface.PciID != want {
					differ(name, want, iface.PciID, "the result has the pciID")
				}
			}
		case "dns":
			if !slices.Contains(result.DNS.Nameservers, AskedServer) {
				differ(name, "the server "+AskedServer, result.DNS.Nameservers, "the result has")
			}
			if !slices.Contains(result.DNS.Search, AskedDomain) {
				differ(name, "the search domain "+AskedDomain, result.DNS.Search, "the result has")
			}
		}
	}
	return errors.Join(errs...)
}

// inPod returns the entries of a result for an interface of the pod.
func inPod(result *cni.Result, ifName string) []*cni.Interface {
	var found []*cni.Interface
	for _, iface := range result.Interfaces {
		if iface.Sandbox != "" && iface.Name == ifName {
			found = append(found, iface)
		}
	}
	return found
}
