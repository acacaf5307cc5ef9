#!/bin/bash
# Builds containerd 1.7 from its Go module into a directory, for cnitest run --backend cri --cri-tools DIR.
#
#	cri/1.7/build.sh DIR TOOLS LOOPBACK
#
# TOOLS is the directory of ../build.sh, whose runc, runc-nocgroup and image are used, and LOOPBACK is upstream's plugin,
# which this containerd calls in each pod.
set -euo pipefail
mkdir -p "${1:?want the directory of the programs}"
out=$(cd "$1" && pwd)
tools=$(cd "${2:?want the directory of build.sh}" && pwd)
loopback=$(realpath "${3:?want the plugin loopback}")
cd "$(dirname "$0")"
containerd=github.com/containerd/containerd
version=$(go list -m -f '{{.Version}}' $containerd)
echo "building containerd $version, its shim and ctr into $out (the first time takes some minutes)"
CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags "-s -w -X $containerd/version.Version=$version" -o "$out/" \
	$containerd/cmd/{containerd,containerd-shim-runc-v2,ctr}
install "$tools"/{runc,runc-nocgroup} "$loopback" "$out/"
install -m 644 "$tools/pause.tar" "$out/"
