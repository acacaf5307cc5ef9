#!/bin/bash
# Runs the suite on a kind cluster with the reference plugins, installed as an operator installs them, and deletes
# everything:
#
#	kind/with-docker.sh kind/e2e.sh                    # all cases
#	kind/with-docker.sh kind/e2e.sh route macvlan      # some
#
# BIN has cnitest and the plugins (bin), and REPORTS gets a folder for each case (_artifacts/kind). The exit status is 0
# if every case has the expected verdict: macvlan fails as its expectation file says, and all others are conformant.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=${BIN:-$here/../bin}
reports=${REPORTS:-$here/../_artifacts/kind}
cache=${CNITEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cnitest}/kind
PATH=$cache/bin:$PATH
cases=("$@")
[ $# -gt 0 ] || cases=(macvlan route veth-to-host veth-to-host-nftables routed-eni verbs job veth-to-host-dual-stack veth-to-host-ipv6)

docker info >/dev/null 2>&1 || { echo "kind/e2e.sh: no Docker here; kind/with-docker.sh kind/e2e.sh brings its own" >&2; exit 3; }
KUBECONFIG=$("$here/cluster.sh" kubeconfig)
export KUBECONFIG
end() {
	status=$?
	if [ $status != 0 ] && [ -n "${KEEP-}" ]; then
		echo "the cluster stays until Ctrl-C; look at it from another terminal: kind/with-docker.sh --enter kubectl get pods -A"
		# Ctrl-C ends only the sleep; the script goes on and deletes the cluster.
		trap : INT
		sleep infinity || true
	fi
	"$here/cluster.sh" down
	exit $status
}
trap end EXIT

# up FAMILY makes a cluster of these addresses, in place of the one that there is.
up() {
	IP_FAMILY=$1 "$here/cluster.sh" up
	if [ -n "${CNITEST_EXTERNAL-}" ]; then
		# Make sure that the counter of packets that would leave works, so that its zero at the end means something.
		node=$(docker ps -q --filter label=io.x-k8s.kind.role=worker | head -n 1)
		afar=(203.0.113.1)
		[ "$1" = ipv4 ] || afar+=("[2001:db8:1::1]")
		for address in "${afar[@]}"; do
			"$here/with-docker.sh" --forget
			docker exec "$node" curl -g -s -m 1 "http://$address/" >/dev/null || true
			[ "$("$here/with-docker.sh" --left)" -gt 0 ] ||
				{ echo "kind/e2e.sh: the counter of packets that leave does not count those to $address" >&2; exit 3; }
		done
	fi
	"$here/install/image.sh"
}

failed=() family=
for case in "${cases[@]}"; do
	plugins=${case%-nftables} mode=iptables masquerade=false addresses=ipv4 want=(--strict --profile kubernetes)
	case $case in
	*-nftables) mode=nftables ;;
	*-dual-stack) addresses=dual ;;
	*-ipv6) addresses=ipv6 ;;
	verbs) want=(--scenario 'cluster-*') ;;
	job) plugins=route ;;
	route) masquerade=true want=(--strict --profile underlay) ;;
	macvlan) want=(--expect "$here/install/macvlan/05-macvlan.expected.yaml") ;;
	esac
	[ "$addresses" = "$family" ] || up $addresses
	family=$addresses
	echo "=== $case: kube-proxy in mode $mode"
	"$here/cluster.sh" proxy $mode $masquerade >/dev/null
	# The pods of the previous case are gone by now.
	[ -z "${CNITEST_EXTERNAL-}" ] || "$here/with-docker.sh" --forget
	kubectl apply -k "$here/install/$plugins" >/dev/null
	kubectl -n kube-system rollout status daemonset cnitest-plugins --timeout 2m >/dev/null
	kubectl wait --for=condition=Ready node --all --timeout 2m >/dev/null
	# CoreDNS' pods were attached by the previous plugins, if at all.
	kubectl -n kube-system delete pod -l k8s-app=kube-dns --wait >/dev/null
	status=
	# With macvlan a kubelet does not reach its own pods, so none becomes ready.
	if [ $case != macvlan ]; then
		if kubectl -n kube-system wait --for=condition=Ready pod -l k8s-app=kube-dns --timeout 2m >/dev/null; then
			echo "CoreDNS is ready: $(kubectl -n kube-system get pods -l k8s-app=kube-dns -o 'jsonpath={.items[*].status.podIP}')"
		else
			status="CoreDNS is not ready"
		fi
	fi
	if [ -z "$status" ]; then
		status=0
		if [ $case = job ]; then
			"$here/job.sh" "$here/../plugin/route/net.d/01-default-1.1.0.conflist" "$reports/job" || status=$?
		else
			"$bin/cnitest" run "$here/install/$plugins/05-$plugins.conflist" --bin-dir "$bin" --backend kind "${want[@]}" \
				--report-dir "$reports/$case" || status=$?
		fi
	fi
	[ "$status" = 0 ] || failed+=("$case: $status, want exit status 0")
	[ $case != verbs ] || "$here/verbs.sh" || failed+=("$case: other verbs than README.md has")
	if [ -n "${CNITEST_EXTERNAL-}" ]; then
		left=$("$here/with-docker.sh" --left)
		echo "packets that wanted to leave the machine: $left"
		# With macvlan alone, packets of pods to services go to the router, since nothing translates them (K03). The
		# router rejects them.
		[ "$left" = 0 ] || [ $case = macvlan ] || failed+=("$case: $left packets wanted to leave the machine")
	fi
	kubectl -n kube-system scale deployment coredns --replicas 0 >/dev/null
	kubectl -n kube-system wait --for=delete pod -l k8s-app=kube-dns --timeout 2m >/dev/null
	kubectl delete -k "$here/install/$plugins" --wait >/dev/null
	kubectl -n kube-system wait --for=delete pod -l app=cnitest-plugins --timeout 1m >/dev/null
	kubectl -n kube-system scale deployment coredns --replicas 2 >/dev/null
done
[ ${#failed[@]} = 0 ] || { printf 'failed: %s\n' "${failed[@]}"; exit 1; }
echo "all cases came out as they must: ${cases[*]}"
