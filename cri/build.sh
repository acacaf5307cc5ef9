#!/bin/bash
# Builds what cnitest run --backend cri needs: containerd with its shim and ctr, runc, and the image of sandboxes.
#
#	cri/build.sh DIR
#	cri/build.sh DIR containerd     # only containerd, its shim and ctr, which are static
#
# Versions are those of go.mod here. Everything comes from Go modules; runc needs a C compiler. The first time takes two
# to four minutes, and with a warm build cache some seconds.
set -euo pipefail
mkdir -p "${1:?want the directory of the programs}"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
export GOFLAGS=-buildvcs=false
what=${2-all}
[ "$what" = containerd ] || command -v "${CC:-gcc}" >/dev/null ||
	{ echo "cri/build.sh: runc needs a C compiler; apt-get install gcc libc6-dev" >&2; exit 3; }

version=$(go list -m -f '{{.Version}}' github.com/containerd/containerd/v2)
echo "building containerd $version, its shim and ctr into $out (the first time takes some minutes)"
containerd=github.com/containerd/containerd/v2
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X $containerd/version.Version=$version" -o "$out/" \
	$containerd/cmd/{containerd,containerd-shim-runc-v2,ctr}
[ "$what" != containerd ] || exit 0
echo "building runc and the image of sandboxes"
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$out/" ./runc-nocgroup
CGO_ENABLED=1 go build -trimpath -ldflags "-s -w -X main.version=$(go list -m -f '{{.Version}}' github.com/opencontainers/runc)" \
	-o "$out/" github.com/opencontainers/runc

cd ..
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/root"
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/root/" ./kind/pause
tar -C "$work/root" --sort=name --owner=0 --group=0 --mtime=@0 -cf "$work/layer.tar" .
CGO_ENABLED=0 go run ./kind/image -layer "$work/layer.tar" -name localhost/cnitest/pause:1 -o "$out/pause.tar" -entrypoint /pause
