#!/bin/bash
# Unpacks what nodes run in production, from Debian's packages and with all that they depend on, for events of nodes:
#
#	e2e/lab/debian/programs.sh
#
# Nothing is installed and no service starts. It needs apt-get and dpkg of Debian or Ubuntu, and once 60 MB of packages
# and 180 MB of disk in ~/.cache/cnitest/node-programs. Delete that directory to get newer versions.
set -euo pipefail
packages=(firewalld ufw network-manager udev iptables nftables dbus dash coreutils grep sed)
root=${XDG_CACHE_HOME:-$HOME/.cache}/cnitest/node-programs
[ ! -e "$root" ] || exit 0
for program in apt-get dpkg; do
	command -v $program >/dev/null || { echo "programs.sh: needs $program, of Debian or Ubuntu" >&2; exit 3; }
done
mkdir -p "$(dirname "$root")"
work=$(mktemp -d "$root.XXXXXX")
trap 'rm -rf "$work"' EXIT

# To a machine on which nothing is installed, apt-get fetches everything.
mkdir -p "$work"/{lists/partial,packages/partial,new/usr}
touch "$work/status"
apt-get -o APT::Sandbox::User=root -o Dir::State::status="$work/status" -o Dir::Cache::archives="$work/packages" \
	-o APT::Install-Recommends=false -qq -y --download-only install "${packages[@]}" >/dev/null
for package in "$work"/packages/*.deb; do
	dpkg -x "$package" "$work/one"
	# /bin, /lib and /sbin are links to directories of /usr (UsrMerge), of which packages know nothing.
	for dir in bin sbin lib lib64; do
		[ ! -e "$work/one/$dir" ] || { mkdir -p "$work/one/usr/$dir" && cp -al "$work/one/$dir/." "$work/one/usr/$dir/"; }
		rm -rf "${work:?}/one/$dir"
	done
	cp -al "$work/one/." "$work/new/"
	rm -rf "$work/one"
done

# What the scripts of packages make when they are installed.
cd "$work/new"
for dir in bin sbin lib lib64; do ln -s usr/$dir $dir; done
mkdir -p run tmp proc sys dev var
ln -sfn /run var/run
for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
	ln -sf xtables-nft-multi usr/sbin/$name
done
cp usr/share/ufw/{ufw.conf,{before,after}.init,{before,after,user}{,6}.rules} etc/ufw/
printf 'root:x:0:0::/:/bin/sh\n' >etc/passwd
printf 'root:x:0:\n' >etc/group
echo 0123456789abcdef0123456789abcdef >etc/machine-id

rm -rf usr/share/{doc,man,locale,info,dbus-1/system-services}
(cd "$work/packages" && for file in *.deb; do echo "${file%.deb}"; done) >packages.txt
mv "$work/new" "$root"
grep -E "^($(IFS='|'; echo "${packages[*]}"))_" "$root/packages.txt"
