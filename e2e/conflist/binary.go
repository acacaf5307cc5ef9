package conflist

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// sources contains the origin of plugins that upstream does not ship, by type.
var sources = map[string]string{
	"whereabouts": "github.com/k8snetworkplumbingwg/whereabouts",
	"bond":        "github.com/k8snetworkplumbingwg/bond-cni",
	"sriov":       "github.com/k8snetworkplumbingwg/sriov-cni",
	"ib-sriov":    "github.com/k8snetworkplumbingwg/ib-sriov-cni",
	"ovs":         "github.com/k8snetworkplumbingwg/ovs-cni",
	"ipoib":       "github.com/k8snetworkplumbingwg/ipoib-cni",
	"rdma":        "github.com/k8snetworkplumbingwg/rdma-cni",
	"spiderpool":  "github.com/spidernet-io/spiderpool",
	"coordinator": "github.com/spidernet-io/spiderpool",
	"ifacer":      "github.com/spidernet-io/spiderpool",
	"multus":      "github.com/k8snetworkplumbingwg/multus-cni",
	"multus-shim": "github.com/k8snetworkplumbingwg/multus-cni",
	"flannel":     "github.com/flannel-io/cni-plugin",
	"calico":      "github.com/projectcalico/calico",
	"calico-ipam": "github.com/projectcalico/calico",
	"cilium-cni":  "github.com/cilium/cilium",
	"antrea":      "github.com/antrea-io/antrea",
	"kube-ovn":    "github.com/kubeovn/kube-ovn",
	"weave-net":   "github.com/weaveworks/weave",
	"dnsname":     "github.com/containers/dnsname",
	"terway":      "github.com/AliyunContainerService/terway",
	"azure-vnet":  "github.com/Azure/azure-container-networking",
	"aws-cni":     "github.com/aws/amazon-vpc-cni-k8s",
	"egress-cni":  "github.com/aws/amazon-vpc-cni-k8s",
}

// MissingBinaries returns an error that names every plugin of the chain, and of its IPAM, whose program is not in dir.
// It says where the file names the plugin and, if known, which project it comes from. It returns nil if none is
// missing.
func (f *File) MissingBinaries(dir string) error {
	var errs []error
	for i, plugin := range f.document.plugins() {
		main := plugin.fields["type"]
		errs = append(errs, f.missing(dir, main, "plugin "+f.Plugins[i].Type))
		if f.Plugins[i].IPAM != "" {
			ipam := plugin.fields["ipam"].fields["type"]
			errs = append(errs, f.missing(dir, ipam, fmt.Sprintf("%s, the IPAM plugin of %s (line %d)",
				f.Plugins[i].IPAM, f.Plugins[i].Type, f.document.line(main.offset))))
		}
	}
	return errors.Join(errs...)
}

func (f *File) missing(dir string, at *value, who string) error {
	name := textOf(at)
	info, err := os.Stat(filepath.Join(dir, name))
	what := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		what = fmt.Sprintf("it is not in %s", dir)
	case err != nil:
		what = err.Error()
	case info.IsDir() || info.Mode().Perm()&0o111 == 0:
		what = fmt.Sprintf("%s is not an executable file", filepath.Join(dir, name))
	default:
		return nil
	}
	from := sources[name]
	if _, ok := upstreamKeys[name]; ok || slices.Contains([]string{"host-local", "static", "dhcp"}, name) {
		from = "github.com/containernetworking/plugins"
	}
	cure := "put its program there, or name its directory with --bin-dir"
	if name == "multus" || name == "multus-shim" {
		return fmt.Errorf("%s:%d: multus attaches networks, and is none: give the suite the network that it attaches, "+
			"and further ones of the pod with --with", f.Path, f.document.line(at.offset))
	}
	if from != "" {
		cure = "build it from " + from + ", and " + cure
	}
	return fmt.Errorf("%s:%d: no program for %s: %s; %s", f.Path, f.document.line(cmp.Or(at, f.document.root).offset),
		who, what, cure)
}
