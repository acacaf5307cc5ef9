#!/bin/bash
# Runs a command with a Docker daemon of its own, in network, mount and PID namespaces that end with the command:
#
#	kind/with-docker.sh kind/e2e.sh
#	kind/with-docker.sh --enter kubectl get pods -A      # meanwhile, from another terminal
#
# The machine's own namespaces get no bridge, no rule and no container, and nothing outlives this script. Kubelets
# change some kernel settings that are not namespaced: they are restored at the end, or after SIGKILL by the next run,
# which also removes the empty control groups that are left then. No packet can leave, since the namespace is not
# connected to the machine. Its default route leads to an interface that goes nowhere, and a rule counts and rejects all
# packets to it; `with-docker.sh --left`, run inside the namespace, prints how many there were since `--forget`.
#
# It needs root, and dockerd, docker, iptables, jq, ip and capsh on the PATH. Images are kept in $CNITEST_CACHE.
set -euo pipefail
self=$(readlink -f "$0")
cache=${CNITEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cnitest}/kind

# The settings that kubelets change (Kubernetes, pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables).
tunables=(vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes)
restore_tunables() {
	[ ! -s "$cache/tunables" ] || sysctl -qp "$cache/tunables"
	rm -f "$cache/tunables"
}

left() {
	{
		iptables -w -nvxL CNITEST-OUT
		ip6tables -w -nvxL CNITEST-OUT
	} | awk '/reject-with/ { n += $1 } END { print n + 0 }'
}

settings() {
	export DOCKER_HOST=unix:///run/docker.sock CNITEST_EXTERNAL="198.51.100.1 2001:db8:ffff::1" KUBECONFIG=$cache/${CLUSTER:-cnitest}.kubeconfig PATH=$cache/bin:$PATH
}

case ${1-} in
--left) left; exit ;;
--forget)
	iptables -w -Z CNITEST-OUT
	ip6tables -w -Z CNITEST-OUT
	exit
	;;
--enter)
	shift
	inside=$(pgrep -P "$(cat "$cache/docker.pid")") || { echo "with-docker: none runs" >&2; exit 3; }
	settings
	exec nsenter --target "$inside" --net --mount --pid --wd="$PWD" -- "$@"
	;;
--inside) shift ;;
*)
	[ "$(id -u)" = 0 ] || { echo "with-docker: want root" >&2; exit 3; }
	for program in dockerd docker iptables ip6tables jq ip capsh; do
		command -v $program >/dev/null ||
			{ echo "with-docker: no program $program; apt-get install docker.io iptables iproute2 jq libcap2-bin, or the same of another distribution" >&2; exit 3; }
	done
	mkdir -p "$cache/docker"
	exec 8>"$cache/docker.lock"
	flock -n 8 || { echo "with-docker: another one runs and has $cache/docker" >&2; exit 3; }
	# Containers of a run that was killed leave control groups behind.
	for dir in /sys/fs/cgroup/cnitest /sys/fs/cgroup/*/cnitest; do
		[ ! -d "$dir" ] || find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || true
	done
	restore_tunables
	sysctl "${tunables[@]}" >"$cache/tunables.new"
	mv "$cache/tunables.new" "$cache/tunables"
	echo $$ >"$cache/docker.pid"
	exec unshare --net --mount --pid --fork --kill-child --mount-proc -- "$self" --inside "$@"
	;;
esac

# Daemons get a separate /run, too.
resolver=$(readlink -m /etc/resolv.conf)
mount -t tmpfs -o mode=755 run /run
# The daemon takes no settings of the machine's, and leaves no key.json there.
[ ! -d /etc/docker ] || mount -t tmpfs -o mode=700 docker /etc/docker
# The machine's resolver is not reachable here, and dockerd would keep asking it on behalf of nodes.
echo "nameserver 127.0.0.1" >/run/resolv.conf
case $resolver in
/run/*) install -D -m644 /run/resolv.conf "$resolver" ;;
*) mount --bind /run/resolv.conf "$resolver" ;;
esac
ip link set lo up
ip link add out type veth peer name nowhere
ip link set out up
ip link set nowhere up
ip address add 192.0.2.1/30 dev out
ip route add default via 192.0.2.2
ip address add 2001:db8:0:2::1/126 dev out nodad
ip route add default via 2001:db8:0:2::2
# Addresses outside of the cluster's network but inside this namespace: they stand for a machine behind the router
# (kind/cluster.sh).
ip address add 198.51.100.1/32 dev lo # CNITEST_EXTERNAL
ip address add 2001:db8:ffff::1/128 dev lo
iptables -w -N CNITEST-OUT
iptables -w -A CNITEST-OUT -o out -j REJECT
iptables -w -I OUTPUT -j CNITEST-OUT
ip6tables -w -N CNITEST-OUT
ip6tables -w -A CNITEST-OUT -o out -j REJECT
# What the kernel itself tells its neighbours does not leave.
ip6tables -w -I OUTPUT ! -p icmpv6 -j CNITEST-OUT
# Docker makes no rules of IPv6.
ip6tables -w -I FORWARD -j CNITEST-OUT
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1

# For privileged containers Docker asks for every capability that it knows. If the machine does not grant some of them,
# runc refuses ("unable to apply caps: operation not permitted"), so this wrapper asks for fewer. Also, a container's
# network takes its settings from the machine's initial namespace, not from this one, so that nodes would forward only
# if the machine does.
cat >/run/runc <<'END'
#!/bin/bash
for arg; do
	case ${before-} in
	--bundle | -b) spec=$arg/config.json ;;
	--process | -p) spec=$arg ;;
	esac
	before=$arg
done
if [ -e "${spec-}" ]; then
	have=$(capsh --print 2>/dev/null | sed -n 's/^Bounding set =//p' | tr 'a-z' 'A-Z')
	jq -c --arg have "$have" '($have | split(",")) as $have
		| walk(if type == "object" and (.capabilities? | type) == "object" then .capabilities |= map_values(. - (. - $have)) else . end)
		| if any(.linux.namespaces[]?; .type == "network" and .path == null) then .linux.sysctl["net.ipv4.ip_forward"] = "1" else . end' \
		"$spec" >"$spec.less" && cat "$spec.less" >"$spec" && rm "$spec.less"
fi
exec runc "$@"
END
chmod 755 /run/runc

settings
log=$cache/dockerd.log
# Without --dns Docker gives nodes with IPv6 the addresses of Google's resolvers, and CoreDNS keeps asking them. Nothing
# answers at this address.
dockerd --data-root "$cache/docker" --exec-root /run/docker --pidfile /run/docker.pid --host "$DOCKER_HOST" --cgroup-parent /cnitest \
	--add-runtime within=/run/runc --default-runtime within --bip 192.0.2.5/30 --dns 198.51.100.1 >"$log" 2>&1 8>&- &
daemon=$!
end() {
	status=$?
	trap '' INT TERM
	docker ps -aq | xargs -r docker rm -fv >/dev/null 2>&1 || true
	kill $daemon 2>/dev/null || true
	wait $daemon || true
	for dir in /sys/fs/cgroup/cnitest /sys/fs/cgroup/*/cnitest; do
		[ ! -d "$dir" ] || find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || true
	done
	restore_tunables
	exit $status
}
trap end EXIT
for _ in $(seq 300); do
	docker info >/dev/null 2>&1 && break
	kill -0 $daemon 2>/dev/null || { tail -5 "$log" >&2; exit 3; }
	sleep 0.1
done
docker info >/dev/null
# Set before Docker's own rules, and therefore before any container runs.
iptables -w -I DOCKER-USER -j CNITEST-OUT
# Containers of a run that was killed are still on the disk, and Docker would start them again.
docker ps -aq | xargs -r docker rm -fv >/dev/null
docker network prune -f >/dev/null
"$@"
