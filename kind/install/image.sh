#!/bin/bash
# Builds the image of the plugins and their installer, FROM scratch, and loads it into the nodes of a kind cluster:
#
#	kind/install/image.sh && kubectl apply -k kind/install/route
#	kind/install/image.sh fetch     # only downloads the modules for the build, which then needs no network
set -euo pipefail
cd "$(dirname "$0")/../.."
name=${CLUSTER:-cnitest}
export CGO_ENABLED=0
upstream=(github.com/containernetworking/plugins/plugins/{ipam/host-local,main/macvlan})
if [ "${1-}" = fetch ]; then
	go list -deps ./kind/installer ./kind/metadata ./kind/cnitest-chained ./kind/image ./plugin/{route,veth-to-host,routed-eni,ipamd} "${upstream[@]}" >/dev/null
	exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/root/plugins" "$work/root/tmp"
go build -trimpath -o "$work/root/plugins/" ./plugin/route ./plugin/veth-to-host ./plugin/routed-eni ./kind/cnitest-chained "${upstream[@]}"
go build -trimpath -o "$work/root/installer" ./kind/installer
go build -trimpath -o "$work/root/" ./plugin/ipamd ./kind/metadata
go build -trimpath -o "$work/image" ./kind/image
tar -C "$work/root" -cf "$work/layer.tar" .
"$work/image" -layer "$work/layer.tar" -name localhost/cnitest/plugins:latest -o "$work/plugins.tar" -entrypoint /installer
for node in $(docker ps -q --filter "label=io.x-k8s.kind.cluster=$name"); do
	docker exec -i "$node" ctr --namespace=k8s.io images import --digests - <"$work/plugins.tar" >/dev/null
done
