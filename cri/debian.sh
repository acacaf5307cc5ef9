#!/bin/bash
# Puts Debian's containerd 1.x and runc into a directory, for cnitest run --backend cri --cri-tools DIR.
#
#	cri/debian.sh DIR TOOLS LOOPBACK
#
# TOOLS is the directory of build.sh, whose image and runc-nocgroup are used, and LOOPBACK is upstream's plugin, which
# this containerd calls in each pod. Nothing is installed, and no service starts: packages are only unpacked.
set -euo pipefail
mkdir -p "${1:?want the directory of the programs}"
out=$(cd "$1" && pwd)
tools=$(cd "${2:?want the directory of build.sh}" && pwd)
loopback=$(realpath "${3:?want the plugin loopback}")
for program in apt-get dpkg; do
	command -v $program >/dev/null || { echo "cri/debian.sh: needs $program, of Debian or Ubuntu" >&2; exit 3; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -o APT::Sandbox::User=root -qq download containerd runc
for package in ./*.deb; do
	dpkg -x "$package" .
done
install usr/bin/{containerd,containerd-shim-runc-v2,ctr} usr/sbin/runc "$tools/runc-nocgroup" "$loopback" "$out/"
install -m 644 "$tools/pause.tar" "$out/"
"$out/containerd" --version
