#!/bin/bash
# Creates and deletes the kind cluster of kind/cluster.yaml:
#
#	kind/cluster.sh up      # afterwards KUBECONFIG=$(kind/cluster.sh kubeconfig) kubectl get nodes
#	kind/cluster.sh proxy nftables true     # changes the mode of kube-proxy, and whether it masquerades all traffic
#	kind/cluster.sh down
#
# CLUSTER is its name (cnitest), PROXY_MODE is iptables or nftables, and IP_FAMILY is ipv4, dual or ipv6. Set
# MASQUERADE_ALL to true if an endpoint's reply would otherwise bypass the node that translated the request. NODE_IMAGE
# is any kindest/node image, by default the one that kind/node-image/build.sh built, or else kind's own.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${CNITEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cnitest}/kind
PATH=$cache/bin:$PATH
name=${CLUSTER:-cnitest}
export KIND_EXPERIMENTAL_DOCKER_NETWORK=$name KUBECONFIG=$cache/$name.kubeconfig

for program in docker kind kubectl; do
	command -v $program >/dev/null || { echo "kind/cluster.sh: no program $program; make kind-node-image builds kind and kubectl" >&2; exit 3; }
done

down() {
	kind delete cluster --name "$name" >/dev/null 2>&1 || true
	docker network rm "$name" >/dev/null 2>&1 || true
	rm -f "$KUBECONFIG"
}

case ${1-} in
up)
	image=${NODE_IMAGE-}
	archive=$(find "$cache" -maxdepth 1 -name 'node-*.tar' -print -quit)
	if [ -z "$image" ] && [ -n "$archive" ]; then
		image=localhost/cnitest/node:$(basename "$archive" .tar | sed s/^node-//)
		if ! docker image inspect "$image" >/dev/null 2>&1; then
			# Images of earlier builds take nearly 1 GB each.
			docker images -q localhost/cnitest/node | xargs -r docker rmi --force >/dev/null || true
			docker load -q <"$archive"
		fi
	fi
	# As in cluster.yaml, pods are on the nodes' network; of IPv6 each node gets a /64 of it.
	family=${IP_FAMILY:-ipv4} networks=(--subnet 172.18.0.0/16 --ip-range 172.18.0.0/24 --gateway 172.18.0.1)
	pods=172.18.128.0/17 services=10.96.0.0/16 pods6=fd00:172:18:8000::/56 services6=fd00:10:96::/112
	case $family in
	ipv4) ;;
	dual) pods+=,$pods6 services+=,$services6 ;;
	ipv6) pods=$pods6 services=$services6 ;;
	*) echo "kind/cluster.sh: IP_FAMILY=$family: want ipv4, dual or ipv6" >&2; exit 2 ;;
	esac
	[ "$family" = ipv4 ] || networks+=(--ipv6 --subnet fd00:172:18::/48 --ip-range fd00:172:18::/112 --gateway fd00:172:18::1)
	down
	docker network create -d bridge "${networks[@]}" -o com.docker.network.driver.mtu=1500 \
		${CNITEST_EXTERNAL:+--label "cnitest.external=$CNITEST_EXTERNAL"} "$name" >/dev/null
	sed -e "s/kubeProxyMode: .*/kubeProxyMode: ${PROXY_MODE:-iptables}/" -e "s/masqueradeAll: false/masqueradeAll: ${MASQUERADE_ALL:-false}/" \
		-e "s/ipFamily: .*/ipFamily: $family/" -e "s|podSubnet: .*|podSubnet: $pods|" -e "s|serviceSubnet: .*|serviceSubnet: $services|" \
		"$here/cluster.yaml" | kind create cluster --name "$name" --config - --retain ${image:+--image "$image"}
	;;
proxy)
	kubectl -n kube-system get configmap kube-proxy -o yaml |
		sed -e "s/^\( *\)mode: .*/\1mode: ${2:-iptables}/" -e "s/masqueradeAll: .*/masqueradeAll: ${3:-false}/" | kubectl apply -f - 2>/dev/null
	kubectl -n kube-system rollout restart daemonset kube-proxy
	kubectl -n kube-system rollout status daemonset kube-proxy --timeout 2m
	;;
down) down ;;
kubeconfig) echo "$KUBECONFIG" ;;
*)
	echo "usage: kind/cluster.sh up|down|kubeconfig|proxy [MODE [MASQUERADE]]" >&2
	exit 2
	;;
esac
