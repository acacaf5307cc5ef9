#!/bin/bash
# Runs Kubernetes' own conformance tests of its network (sig-network) on a kind cluster whose only CNI is macvlan +
# veth-to-host + portmap:
#
#	kind/upstream/build.sh && kind/with-docker.sh kind/upstream/run.sh
#
# The tests are those of k8s.io/kubernetes at the version in go.mod, unchanged. FOCUS and SKIP are Ginkgo's expressions;
# REPORTS gets junit.xml and the log (_artifacts/kind/upstream).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
reports=${REPORTS:-$here/../../_artifacts/kind/upstream}
cache=${CNITEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cnitest}/kind
PATH=$cache/bin:$PATH
focus=${FOCUS:-'\[sig-network\].*\[Conformance\]'}
# Tests that change nodes for all others must run alone.
skip=${SKIP:-'\[Serial\]|\[Disruptive\]'}
mkdir -p "$reports"
archive=$(find "$cache" -maxdepth 1 -name 'agnhost-*.tar' -print -quit)
[ -n "$archive" ] && [ -x "$cache/network.test" ] || { echo "kind/upstream/run.sh: run kind/upstream/build.sh first, where the network is" >&2; exit 3; }

KUBECONFIG=$("$here/../cluster.sh" kubeconfig)
export KUBECONFIG
trap '"$here/../cluster.sh" down' EXIT
PROXY_MODE=${PROXY_MODE:-iptables} "$here/../cluster.sh" up
"$here/../install/image.sh"
for node in $(docker ps -q --filter "label=io.x-k8s.kind.cluster=${CLUSTER:-cnitest}"); do
	docker exec -i "$node" ctr --namespace=k8s.io images import --digests - <"$archive" >/dev/null
done
kubectl apply -k "$here/../install/veth-to-host-portmap" >/dev/null
kubectl wait --for=condition=Ready node --all --timeout 2m
kubectl -n kube-system wait --for=condition=Ready pod -l k8s-app=kube-dns --timeout 2m
# Tests may run on the control plane, too, since most need two nodes.
kubectl taint nodes --all node-role.kubernetes.io/control-plane- >/dev/null 2>&1 || true
status=0
"$cache/network.test" -kubeconfig "$KUBECONFIG" -provider=skeleton -num-nodes=2 -ginkgo.focus="$focus" -ginkgo.skip="$skip" -ginkgo.no-color \
	-ginkgo.junit-report="$reports/junit.xml" -ginkgo.timeout=2h >"$reports/log.txt" 2>&1 || status=$?
sed -n 's/.*<testcase name="\[It\] \([^"]*\)".*status="\(passed\|failed\|panicked\|timedout\)".*time="\([0-9.]*\)".*/\2\t\3s\t\1/p' "$reports/junit.xml" | sort
grep -E '^(Ran|FAIL|PASS|SUCCESS)' "$reports/log.txt" | tail -n 3 || true
[ -z "${CNITEST_EXTERNAL-}" ] || echo "packets that wanted to leave the machine: $("$here/../with-docker.sh" --left)"
exit $status
