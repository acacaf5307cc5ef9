#!/bin/bash
# Builds Kubernetes' network tests, and the image that most of them use, agnhost, from its module and Debian packages.
# Both are kept in $CNITEST_CACHE. Run make kind-node-image before.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${CNITEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cnitest}/kind
[ -x "$cache/bin/agnhost" ] || { echo "kind/upstream/build.sh: run kind/node-image/build.sh first" >&2; exit 3; }
suite=bookworm
mkdir -p "$cache"

echo "building the tests (the first time takes some minutes)"
(cd "$here" && CGO_ENABLED=0 GOFLAGS=-buildvcs=false go test -c -ldflags "-s -w" -o "$cache/network.test" .)
# The build above has downloaded the module; `go list -m` alone would not.
agnhost=$(cd "$here" && go list -m -f '{{.Dir}}' k8s.io/kubernetes)/test/images/agnhost
name=registry.k8s.io/e2e-test-images/agnhost:$(cat "$agnhost/VERSION")
# The other image that the DNS tests use is Debian, and so is this one.
glibc=registry.k8s.io/e2e-test-images/glibc-dns-testing:2.0.0
archive=$cache/agnhost-$(cat "$here/packages.txt" "$cache/bin/agnhost" "$here/build.sh" <(echo "$name" "$glibc") | sha256sum | cut -c1-12).tar
if [ ! -e "$archive" ]; then
	echo "building $name"
	work=$(mktemp -d "$cache/work.XXXXXX")
	debootstrap --variant=minbase --include="$(paste -sd, "$here/packages.txt")" "$suite" "$work/root" >"$cache/debootstrap.log" 2>&1 ||
		{ tail -n 5 "$cache/debootstrap.log" >&2; exit 1; }
	install -m755 "$cache/bin/agnhost" "$work/root/agnhost"
	install -m755 "$cache/bin/coredns" "$work/root/coredns"
	ln -s agnhost "$work/root/agnhost-2"
	install -m644 "$agnhost"/porter/localhost.{crt,key} "$work/root/"
	mkdir -p "$work/root/uploads"
	rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/* "$work"/root/usr/share/{doc,man,locale}
	tar -C "$work/root" -cf "$work/layer.tar" .
	"$cache/bin/image" -layer "$work/layer.tar" -name "$name" -name "$glibc" -o "$work/agnhost.tar" -entrypoint /agnhost -cmd pause -env PATH=/usr/sbin:/usr/bin:/sbin:/bin
	rm -f "$cache"/agnhost-*.tar
	mv "$work/agnhost.tar" "$archive"
	rm -rf "$work"
fi
