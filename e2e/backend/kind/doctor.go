package kind

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// Finding is a condition that runs on a cluster depend on.
type Finding struct {
	OK bool
	// What names the thing that was checked. Cost says what is lost without it, and how to mend it.
	What, Cost string
}

// Doctor checks whether this machine can make and use a cluster of kind and, if kubectl reaches a cluster, checks its
// nodes. It changes nothing in either.
func Doctor(ctx context.Context, options Options) []Finding {
	var found []Finding
	for _, program := range []struct{ name, cost string }{
		{"docker", "no cluster of kind can be made or entered; apt-get install docker.io"},
		{"kind", "no cluster can be made; make kind-node-image builds one, and kind.sigs.k8s.io has releases"},
		{"kubectl", "no cluster can be used; make kind-node-image builds one"},
	} {
		_, err := exec.LookPath(program.name)
		found = append(found, Finding{err == nil, "program " + program.name, program.cost})
	}
	found = append(found, capabilities(), controlGroups(), dockerd(ctx))
	if findKubectl() == nil {
		found = append(found, clusterFindings(ctx, options)...)
	}
	return found
}

// capabilities checks the capabilities that Docker requests for a privileged container.
func capabilities() Finding {
	f := Finding{
		What: "capabilities of privileged containers",
		Cost: "no node starts: runc fails if it may not grant all requested capabilities (unable to apply caps); " +
			"kind/with-docker.sh requests fewer",
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return f
	}
	last, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return f
	}
	match := regexp.MustCompile(`(?m)^CapBnd:\s*([0-9a-f]+)$`).FindSubmatch(status)
	count, err := strconv.Atoi(string(bytes.TrimSpace(last)))
	if match == nil || err != nil {
		return f
	}
	bounding, err := strconv.ParseUint(string(match[1]), 16, 64)
	if err != nil {
		return f
	}
	var missing []string
	for bit := range count + 1 {
		if bounding>>bit&1 == 0 {
			missing = append(missing, strconv.Itoa(bit))
		}
	}
	if f.OK = len(missing) == 0; !f.OK {
		f.What += fmt.Sprintf(" (this machine withholds number %s of capabilities(7))", strings.Join(missing, ", "))
	}
	return f
}

// controlGroups checks whether the machine has control groups of version 1, which kubelets accept only with a setting.
func controlGroups() Finding {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return Finding{
		err == nil, "control groups of version 2",
		"kubelets from 1.35 on refuse to start; failCgroupV1: false, as in kind/cluster.yaml, makes them start",
	}
}

func dockerd(ctx context.Context) Finding {
	f := Finding{
		What: "Docker daemon",
		Cost: "kind/with-docker.sh runs a command with its own Docker daemon and leaves nothing behind",
	}
	if _, err := exec.LookPath("docker"); err == nil {
		_, err = output(ctx, nil, "docker", "info")
		f.OK = err == nil
	}
	return f
}

// clusterFindings returns findings about a cluster that exists.
func clusterFindings(ctx context.Context, options Options) []Finding {
	a, err := newAPI(ctx, options.Kubeconfig, options.Context)
	if err != nil {
		return []Finding{{false, "cluster", "kubectl reaches none; kind/cluster.sh up makes one"}}
	}
	defer a.close()
	nodes, err := findNodes(ctx, a)
	if err != nil {
		return []Finding{{false, "nodes of the cluster", err.Error()}}
	}
	found := []Finding{{true, fmt.Sprintf("cluster of %d nodes", len(nodes)), ""}}
	var list nodeList
	if err := a.Get(ctx, "/api/v1/nodes", &list); err == nil {
		err = list.unready()
		found = append(found, Finding{
			err == nil, "nodes are ready",
			fmt.Sprintf("%v; pods start when a conflist is installed (kind/install)", err),
		})
	}
	for _, n := range nodes {
		if n.container != "" && findDocker() == nil {
			found = append(found, n.findings(ctx)...)
		}
	}
	if container := nodes[0].container; container != "" && findDocker() == nil {
		found = append(found, wayOut(ctx, container))
	}
	return found
}

// findings returns findings about one of kind's nodes.
func (n *node) findings(ctx context.Context) []Finding {
	exec := func(argv ...string) (string, error) {
		text, err := output(ctx, nil, append([]string{"docker", "exec", n.container}, argv...)...)
		return strings.TrimSpace(text), err
	}
	// setting returns a finding about the greatest value of some sysctls: the kernel uses the greater of the value in
	// conf/all and the device's own (inetdevice.h: IN_DEV_MAXCONF).
	setting := func(what, cost string, ok func(value int) bool, files ...string) Finding {
		value, err := greatest(exec, files)
		if err != nil {
			return Finding{false, what, fmt.Sprintf("it could not be read: %v", err)}
		}
		return Finding{ok(value), what, cost}
	}
	uplink, err := exec("ip", "-o", "address", "show", "to", n.addresses[0].String())
	fields := strings.Fields(uplink)
	if len(fields) < 2 {
		return []Finding{{false, "node " + n.name, fmt.Sprintf("which device has %s could not be read: %v",
			n.addresses[0], cmp.Or(err, errors.New("none")))}}
	}
	uplink = fields[1] // the second word, after the index
	found := []Finding{
		setting("node "+n.name+" forwards", "services of pods fail: their packets end on the node; sysctl -w "+
			"net.ipv4.ip_forward=1 there",
			func(value int) bool { return value == 1 }, "ip_forward"),
		setting("node "+n.name+" answers ARP for all its addresses",
			"pods cannot find their node through a device of the plugin; sysctl -w net.ipv4.conf.{all,"+uplink+
				"}.arp_ignore=0 there, and no strictARP in kube-proxy",
			func(value int) bool { return value < 2 }, "conf/all/arp_ignore", "conf/"+uplink+"/arp_ignore"),
		setting("node "+n.name+" accepts packets that arrive on another link",
			"kind's own setting (net.ipv4.conf.all.rp_filter=1); a plugin by which others learn the node's address "+
				"at the wrong MAC cuts the node off for seconds (K01)",
			func(value int) bool { return value != 1 }, "conf/all/rp_filter", "conf/"+uplink+"/rp_filter"),
	}
	proxy := Finding{What: "kube-proxy on " + n.name + " writes its rules"}
	metrics, err := exec("curl", "-s", "-m", "3", proxyMetrics)
	switch failures := proxyFailures(metrics); {
	case err != nil:
		proxy.Cost = fmt.Sprintf("it could not be asked: %v", err)
	case failures == 0:
		proxy.OK = true
	default:
		proxy.Cost = fmt.Sprintf("%d attempts failed: services keep their old endpoints, and nothing but its log "+
			"says so; a kube-proxy image without the libraries of "+
			"iptables' modules does that", failures)
	}
	return append(found, proxy)
}

// greatest returns the greatest of some sysctls of IPv4.
func greatest(exec func(argv ...string) (string, error), files []string) (int, error) {
	most := 0
	for _, file := range files {
		text, err := exec("cat", path.Join("/proc/sys/net/ipv4", file))
		if err != nil {
			return 0, err
		}
		value, err := strconv.Atoi(text)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		most = max(most, value)
	}
	return most, nil
}

// failurePattern matches kube-proxy's counters of rules that it could not write.
var failurePattern = regexp.MustCompile(
	`(?m)^kubeproxy_sync_proxy_rules_(?:iptables_restore|nftables_sync)_failures_total(?:\{[^}]*\})? (\S+)$`)

func proxyFailures(metrics string) int {
	sum := 0
	for _, match := range failurePattern.FindAllStringSubmatch(metrics, -1) {
		if value, err := strconv.ParseFloat(match[1], 64); err == nil {
			sum += int(value)
		}
	}
	return sum
}

// wayOut checks where packets go whose destination is a cluster address that nobody translates.
func wayOut(ctx context.Context, container string) Finding {
	f := Finding{
		What: "nothing leaves the cluster's network",
		Cost: "packets to a service address that nobody translates go to the router of this machine, and connect " +
			"if that router answers everything; " +
			"kind/with-docker.sh keeps them in a namespace without a route out",
	}
	_, external, err := networkOf(ctx, container)
	f.OK = err == nil && external != ""
	return f
}
