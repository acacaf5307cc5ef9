#!/bin/bash
# Installs the programs that kind/node-image/build.sh and kind/with-docker.sh need, on Debian and its derivatives. It
# asks first, unless CI=true.
set -euo pipefail
missing=()
for pair in dockerd:docker.io docker:docker.io debootstrap:debootstrap iptables:iptables jq:jq ip:iproute2 capsh:libcap2-bin unshare:util-linux; do
	command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
[ ${#missing[@]} -gt 0 ] || exit 0
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
install=(apt-get install -y --no-install-recommends "${missing[@]}")
command -v apt-get >/dev/null || { echo "kind/packages.sh: no apt-get; install what Debian calls ${missing[*]}" >&2; exit 3; }
if [ "${CI-}" != true ]; then
	read -rp "${install[*]}? [y/N] " answer || answer=
	[ "$answer" = y ] || { echo "kind/packages.sh: not installed: ${missing[*]}" >&2; exit 3; }
fi
# No daemon may start on the machine: kind/with-docker.sh starts its own.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
	trap 'rm -f $policy' EXIT
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${install[@]}"
