#!/bin/bash
# Builds a kind node image from Debian packages and Go modules, for machines that reach no image registry:
#
#	kind/node-image/build.sh      # prints the archive's path; `docker load` reads it
#
# Versions are those of go.mod here and of Debian's stable release below; kind's own files for node images come from
# kind's module. Everything is kept in $CNITEST_CACHE, outside the repository: a second run with nothing changed takes
# seconds.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${CNITEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cnitest}/kind
suite=bookworm
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false
cd "$here"

# `go list -m` names a module's directory only where the module is there already.
go mod download sigs.k8s.io/kind
version() { go list -m -f '{{.Version}}' "$1"; }
kubernetes=$(version k8s.io/kubernetes)
etcd=$(version go.etcd.io/etcd/server/v3)
coredns=$(version github.com/coredns/coredns)
kind=$(go list -m -f '{{.Dir}}' sigs.k8s.io/kind)/images/base/files
say() { echo "kind-node-image: $*" >&2; }

[ "$(id -u)" = 0 ] || { say "want root, for debootstrap and chroot"; exit 3; }
command -v debootstrap >/dev/null || { say "no debootstrap; apt-get install debootstrap"; exit 3; }
[ -d "$kind" ] || { say "no $kind: this version of kind has its files elsewhere"; exit 3; }
mkdir -p "$cache/bin" "$cache/images"

# Kubernetes' own build stamps its version like this; kubeadm and the API server refuse to work without.
stamp=
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
	minor=${kubernetes#*.}
	stamp+=" -X $package.gitVersion=$kubernetes -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
	stamp+=" -X $package.gitTreeState=clean -X $package.buildDate=1970-01-01T00:00:00Z"
done
say "building Kubernetes $kubernetes, etcd $etcd, CoreDNS $coredns and kind (the first time takes 10 minutes and more)"
go build -trimpath -ldflags "-s -w$stamp" -o "$cache/bin/" tool ./coredns
(cd ../.. && go build -trimpath -o "$cache/bin/" ./kind/image ./kind/pause)
(cd ../.. && go build -trimpath -o "$cache/bin/cni/" \
	github.com/containernetworking/plugins/plugins/{ipam/host-local,main/loopback,main/ptp,meta/portmap})
../../cri/build.sh "$cache/bin/containerd" containerd >&2

key=$(find "$cache/bin" -type f -print0 | sort -z | xargs -0 cat build.sh packages.txt go.sum | sha256sum | cut -c1-12)
image=localhost/cnitest/node:$kubernetes-$key
archive=$cache/node-$kubernetes-$key.tar
if [ -e "$archive" ]; then
	echo "$archive"
	exit
fi

# The Debian part. What is in it is recorded in the image, /kind/packages.
root=$cache/rootfs-$suite-$(sha256sum packages.txt | cut -c1-8)
if [ ! -e "$root" ]; then
	say "Debian $suite"
	rm -rf "$root.tmp"
	debootstrap --variant=minbase --include="$(paste -sd, packages.txt)" "$suite" "$root.tmp" >"$cache/debootstrap.log" 2>&1 ||
		{ tail -5 "$cache/debootstrap.log" >&2; exit 1; }
	mv "$root.tmp" "$root"
fi

# archive NAME FILES-DIR IMAGE… [-- FLAG…] writes images/NAME.tar.
archive() {
	local name=$1 dir=$2 flags=()
	shift 2
	while [ $# -gt 0 ] && [ "$1" != -- ]; do flags+=(-name "$1"); shift; done
	shift || true
	tar -C "$dir" --sort=name --owner=0 --group=0 --mtime=@0 -cf "$work/layer.tar" .
	"$cache/bin/image" -layer "$work/layer.tar" -o "$cache/images/$name.tar" "${flags[@]}" "$@"
	rm "$work/layer.tar"
}

work=$(mktemp -d "$cache/work.XXXXXX")
# Whatever ends this, nothing stays mounted.
trap 'umount -q "$work/node/proc" || true; rm -rf "$work"' EXIT

# program NAME BINARY IMAGE… makes the image of one static program.
program() {
	local name=$1 binary=$2
	shift 2
	rm -rf "$work/$name" && install -D -m755 "$cache/bin/$binary" "$work/$name/usr/local/bin/$name"
	mkdir -p "$work/$name/tmp" "$work/$name/etc"
	archive "$name" "$work/$name" "$@" -- -entrypoint "/usr/local/bin/$name" -env PATH=/usr/local/bin
}
say "images of the control plane"
rm -f "$cache"/images/*.tar
for name in kube-apiserver kube-controller-manager kube-scheduler; do
	program $name $name "registry.k8s.io/$name:$kubernetes"
done
program etcd server "registry.k8s.io/etcd:${etcd#v}-0"
program pause pause registry.k8s.io/pause:3.10 registry.k8s.io/pause:3.10.2
# kubeadm names the program in CoreDNS' image by its path.
rm -rf "$work/coredns" && install -D -m755 "$cache/bin/coredns" "$work/coredns/coredns"
archive coredns "$work/coredns" "registry.k8s.io/coredns/coredns:$coredns" -- -entrypoint /coredns

# kube-proxy calls iptables, nft and conntrack, and these load libraries: iptables' match modules have some of their own
# (libxt_statistic needs libm; without it each service with two endpoints keeps its old rules, and nothing but the log
# says so).
proxy=$work/kube-proxy
mkdir -p "$proxy"/{usr/local/bin,usr/sbin,usr/bin,usr/lib,usr/lib64,run,tmp,etc,var/lib}
ln -s usr/bin usr/sbin usr/lib usr/lib64 "$proxy/"
install -m755 "$cache/bin/kube-proxy" "$proxy/usr/local/bin/"
programs=(/usr/sbin/xtables-nft-multi /usr/sbin/nft /usr/sbin/conntrack /usr/bin/kmod)
modules=("$root"/usr/lib/*/xtables/*.so)
{
	printf '%s\n' "${programs[@]}" "${modules[@]#"$root"}"
	chroot "$root" ldd "${programs[@]}" "${modules[@]#"$root"}" | grep -oE '/[^ :]+\.so[^ :]*'
} | sort -u | while read -r file; do
	install -D -m755 "$root$file" "$proxy$file"
done
for name in iptables ip6tables; do
	for suffix in '' -save -restore; do ln -s xtables-nft-multi "$proxy/usr/sbin/$name$suffix"; done
done
archive kube-proxy "$proxy" "registry.k8s.io/kube-proxy:$kubernetes" -- -env PATH=/usr/local/bin:/usr/sbin:/usr/bin

say "node"
node=$work/node
cp -a --reflink=auto "$root" "$node"
cp -r --no-preserve=mode "$kind"/. "$node/"
chmod 755 "$node"/usr/local/bin/* "$node"/kind/bin/*
# As kind's Dockerfile has it: no units that a container cannot start, no kernel messages, systemd as init.
rm -f "$node"/lib/systemd/system/{multi-user,local-fs,basic}.target.wants/* "$node"/etc/systemd/system/*.wants/* \
	"$node"/lib/systemd/system/sockets.target.wants/*{udev,initctl}* "$node"/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service
echo ReadKMsg=no >>"$node/etc/systemd/journald.conf"
ln -sf /usr/lib/systemd/systemd "$node/sbin/init"
chroot "$node" systemctl --quiet enable kubelet.service containerd.service undo-mount-hacks.service
chroot "$node" systemctl --quiet mask systemd-binfmt.service
install -m755 "$cache"/bin/{kubelet,kubeadm,kubectl} "$node/usr/bin/"
install -D -m755 -t "$node/opt/cni/bin" "$cache"/bin/cni/*
mkdir -p "$node/etc/kubernetes/manifests"
# kind's files look for the runtime in /usr/local, where its own build puts it.
install -m755 -t "$node/usr/local/bin" "$cache"/bin/containerd/*
mkdir -p "$node/usr/local/sbin"
ln -s /usr/sbin/runc "$node/usr/local/sbin/"
chroot "$node" /usr/local/bin/ctr oci spec | jq '.hooks.createContainer += [{path: "/kind/bin/mount-product-files.sh"}] | del(.process.rlimits)' \
	>"$node/etc/containerd/cri-base.json"
# Where this machine keeps CAP_SYS_RESOURCE to itself, runc cannot lower oom_score_adj and no pod starts.
sed -i 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' "$node/etc/containerd/config.toml"
# `kind export logs` asks crictl for the list of images alone.
printf '#!/bin/sh\n[ "$1" = images ] && exec ctr -n k8s.io images ls\necho "crictl: only images is here" >&2\nexit 1\n' >"$node/usr/local/bin/crictl"
chmod 755 "$node/usr/local/bin/crictl"
printf %s "$kubernetes" >"$node/kind/version"
chroot "$node" dpkg-query -W >"$node/kind/packages"
: >"$node/etc/machine-id"
rm -rf "$node"/var/cache/apt/archives/*.deb "$node"/var/lib/apt/lists/* "$node"/usr/share/{doc,man,locale}/* "$node"/var/log/* \
	"$node"/etc/{hostname,resolv.conf}

say "loading the images into the node's containerd"
cat >"$node/tmp/preload.toml" <<-'END'
	version = 3
	root = "/var/lib/containerd"
	state = "/tmp/preload"
	disabled_plugins = [
	  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.nri.v1.nri",
	]
	[grpc]
	address = "/tmp/preload.sock"
END
mount -t proc proc "$node/proc"
chroot "$node" /usr/local/bin/containerd -c /tmp/preload.toml >"$cache/containerd.log" 2>&1 &
containerd=$!
trap 'kill $containerd 2>/dev/null || true; wait $containerd || true; umount -q "$work/node/proc" || true; rm -rf "$work"' EXIT
for _ in $(seq 100); do [ -S "$node/tmp/preload.sock" ] && break; sleep 0.1; done
for tar in "$cache"/images/*.tar; do
	# As `kind build node-image` does: the content alone, unpacked when a node first needs it, and never collected as
	# garbage.
	chroot "$node" /usr/local/bin/ctr -a /tmp/preload.sock -n k8s.io images import --label=io.cri-containerd.pinned=pinned --no-unpack --digests - <"$tar" >/dev/null
done
kill $containerd
wait $containerd || true
umount "$node/proc"
rm -rf "$node"/tmp/*

say "archive"
tar -C "$node" -cf "$work/layer.tar" .
# systemd looks for the first, and ends on the last alone (https://systemd.io/CONTAINER_INTERFACE).
"$cache/bin/image" -layer "$work/layer.tar" -name "$image" -o "$work/node.tar" \
	-env container=docker -entrypoint /usr/local/bin/entrypoint -entrypoint /sbin/init -stop-signal SIGRTMIN+3
rm -f "$cache"/node-*.tar
mv "$work/node.tar" "$archive"
say "$image, $(du -h "$archive" | cut -f1)"
echo "$archive"
