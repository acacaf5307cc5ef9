#!/bin/bash
# Runs the suite on virtual machines:
#
#	e2e.sh box    build the small box, for machines that cannot fetch a public one
#	e2e.sh run    bring the machines up, run the suite on each conflist of net.d, and destroy them
#	e2e.sh shell  bring them up and start a shell beside them; they are destroyed at its end
#
# If libvirt runs on this machine, or VirtualBox is chosen, the script uses it. Otherwise run starts libvirt in separate
# namespaces: its networks, machines and configuration exist only there and end with it, also after SIGKILL. The script
# asks before it installs packages, unless CI=true. README.md lists the variables.
set -euo pipefail

# On some distributions these are not in the PATH of users other than root.
PATH=$PATH:/usr/sbin:/sbin
self=$(realpath "$0")
here=$(dirname "$self")
top=$(dirname "$here")
cache=${CNITEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cnitest}/vagrant
light=cnitest-light
artifacts=${CNITEST_ARTIFACTS:-$top/_artifacts/vagrant}
provider=${VAGRANT_DEFAULT_PROVIDER:-libvirt}
export VAGRANT_CWD=$here VAGRANT_DEFAULT_PROVIDER=$provider VAGRANT_CHECKPOINT_DISABLE=1

die() {
	echo "e2e.sh: $*" >&2
	exit 3
}

# end cleans up, however the script ends.
machines= disks=
end() {
	[ -z "$machines" ] || vagrant destroy --force >/dev/null 2>&1 || true
	[ -z "$disks" ] || rm -rf "$disks"/*
}
trap end EXIT

# need COMMAND PACKAGE... installs packages unless the command is there.
need() {
	local command=$1 answer=no as_root=
	shift
	[ -z "$(command -v "$command")" ] || return 0
	[ -n "$(command -v apt-get)" ] || die "$command is not installed; install what your distribution has in place of Debian's: $*"
	if [ "${CI:-}" = true ]; then
		answer=yes
	elif [ -t 0 ]; then
		read -r -p "$command is missing. Install $*? [y/N] " answer
	fi
	case $answer in
	y* | Y*) ;;
	*) die "$command is missing: apt-get install --no-install-recommends $* (CI=true does it without a question)" ;;
	esac
	[ "$(id -u)" = 0 ] || as_root=sudo
	$as_root apt-get update -q
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

needs_libvirt() {
	need qemu-system-x86_64 qemu-system-x86 qemu-utils
	# The hypervisor and its client, but not the service: running libvirt on the machine is the administrator's
	# decision.
	need libvirtd libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients dnsmasq-base iptables iproute2
	need virsh libvirt-clients
	need dnsmasq dnsmasq-base
	need iptables iptables
	need ip iproute2
	need ssh openssh-client
	need vagrant vagrant vagrant-libvirt openssh-client
}

build_box() {
	[ "$(id -u)" = 0 ] || die "box: want root, to make the file system of the box"
	need mmdebstrap mmdebstrap e2fsprogs busybox-static cpio
	need qemu-img qemu-utils
	need vagrant vagrant vagrant-libvirt openssh-client
	mkdir -p "$cache"
	"$here/box/build.sh" "$cache/$light.box"
}

# kvm_works boots the box's kernel, which panics without a disk and exits. That /dev/kvm exists is not enough: under
# some hypervisors guests hang.
kvm_works() {
	local dir status=0
	[ -w /dev/kvm ] || return 1
	dir=$(mktemp -d)
	tar -C "$dir" -xzf "$cache/$light.box" vmlinuz
	timeout -k 2 10 qemu-system-x86_64 -accel kvm -m 256 -nodefaults -display none -no-reboot -kernel "$dir/vmlinuz" -append 'panic=-1 quiet' 2>/dev/null || status=$?
	rm -rf "$dir"
	return "$status"
}

# served reports whether the provider already runs.
served() {
	[ "$provider" != libvirt ] || virsh -c qemu:///system version >/dev/null 2>&1
}

# own_libvirt runs this script again in namespaces in which it can start libvirt.
own_libvirt() {
	[ "$(id -u)" = 0 ] || die "no libvirt serves at qemu:///system; start it (systemctl start libvirtd, and be in the group libvirt), or run this as root"
	# The test of the machines runs without a network, so its modules are downloaded before.
	(cd "$top" && "${GO:-go}" list -deps -test ./e2e/backend/ssh >/dev/null)
	[ -f "$cache/$light.box" ] || die "no box at $cache/$light.box; make vagrant-box builds it"
	mkdir -p "$artifacts"
	exec 8>"$cache/own.lock"
	flock -n 8 || die "another one runs and has $cache/own"
	# When the first process of the PID namespace ends, all others in it end, too.
	exec unshare --mount --net --uts --ipc --pid --fork --kill-child --mount-proc "$self" inside "$@"
}

# start_libvirt starts libvirt; what it writes to /etc, /run and /var goes to a tmpfs and not to the machine.
start_libvirt() {
	local work=$cache/own
	rm -rf "$work"
	mkdir -p "$work/images" "$work/writes"
	disks=$work/images
	mount -t tmpfs -o mode=755 tmpfs "$work/writes"
	for dir in etc var; do
		mkdir -p "$work/writes/$dir/upper" "$work/writes/$dir/work"
		mount -t overlay -o "lowerdir=/$dir,upperdir=$work/writes/$dir/upper,workdir=$work/writes/$dir/work" overlay "/$dir"
	done
	mount -t tmpfs -o mode=755 tmpfs /run
	mkdir -p /run/lock /etc/libvirt /var/lib/libvirt/images /var/log/libvirt "$artifacts/console"
	mount --bind "$work/images" /var/lib/libvirt/images
	ip link set lo up
	# Users that the service's package would create; libvirt looks for them in any configuration.
	for user in libvirt-qemu libvirt-dnsmasq; do
		id "$user" >/dev/null 2>&1 || useradd --system --user-group --no-create-home --shell /usr/sbin/nologin "$user"
	done
	# Without cgroups, security labels and virtlogd, which need a complete system.
	cat >/etc/libvirt/qemu.conf <<-'CONF'
		user = "root"
		group = "root"
		security_driver = "none"
		cgroup_controllers = []
		namespaces = []
		remember_owner = 0
		dynamic_ownership = 0
		stdio_handler = "file"
	CONF
	cat >/etc/libvirt/libvirtd.conf <<-'CONF'
		auth_unix_rw = "none"
		auth_unix_ro = "none"
		unix_sock_group = "root"
	CONF
	libvirtd >"$artifacts/console/libvirtd.log" 2>&1 8>&- &
	for _ in $(seq 300); do
		served && return 0
		sleep 0.2
	done
	die "libvirtd does not serve within a minute: $(tail -n 3 "$artifacts/console/libvirtd.log")"
}

# with_machines CMD... brings the machines up, runs a command, and destroys them.
with_machines() {
	local status=0 begin=$SECONDS
	machines=up
	mkdir -p "$artifacts"
	timeout "${CNITEST_UP_TIMEOUT:-1200}" vagrant up --no-tty >"$artifacts/vagrant.log" 2>&1 ||
		die "the machines did not come up: $(tail -n 3 "$artifacts/vagrant.log"); more in $artifacts/vagrant.log${CNITEST_CONSOLE_DIR:+, what they said in $CNITEST_CONSOLE_DIR}"
	vagrant ssh-config >"$artifacts/ssh-config"
	echo "machines up in $((SECONDS - begin)) s"
	"$@" || status=$?
	begin=$SECONDS
	vagrant destroy --force >>"$artifacts/vagrant.log" 2>&1
	machines=
	echo "machines destroyed in $((SECONDS - begin)) s"
	return "$status"
}

nodes() { seq -s , -f 'node%g' "${CNITEST_NODES:-2}"; }

# run_suite checks that traffic between pods on two machines crosses both uplinks, runs each conflist and prints its
# verdict. The flags of a conflist are in a file beside it.
run_suite() {
	local status=0 conflist name flags
	(cd "$top" && CNITEST_SSH_NODES=$(nodes) CNITEST_SSH_CONFIG=$artifacts/ssh-config CNITEST_TEST_PLUGINS=$top/bin \
		"${GO:-go}" test -count=1 -v -run '^TestMachines$' ./e2e/backend/ssh) || status=$?
	for conflist in ${CNITEST_CONFLISTS:-"$here"/net.d/*.conflist}; do
		name=$(basename "$conflist" .conflist)
		flags=()
		# Quoted as for a shell.
		[ ! -f "${conflist%.conflist}.flags" ] || eval "flags=($(<"${conflist%.conflist}.flags"))"
		"$top/bin/cnitest" run "$conflist" --bin-dir "$top/bin" --report-dir "$artifacts/$name" --backend ssh --ssh-config "$artifacts/ssh-config" \
			--nodes "$(nodes)" --outside outside --reboot reboot --uplink-subnet 10.77.0.0/16 "${flags[@]}" ${CNITEST_FLAGS:-} || status=$?
		echo
	done
	return "$status"
}

case ${1:-} in
box) build_box ;;
run | shell)
	[ "$provider" != libvirt ] || served || needs_libvirt
	served || own_libvirt "$1"
	task=$1
	;;&
inside)
	task=$2
	start_libvirt
	export VAGRANT_HOME=$cache/home VAGRANT_DOTFILE_PATH=$cache/own/state CNITEST_BOX=${CNITEST_BOX:-$light} CNITEST_CONSOLE_DIR=$artifacts/console
	[ "$CNITEST_BOX" != "$light" ] || vagrant box add --force --name "$light" --provider libvirt "$cache/$light.box" >/dev/null
	if [ -z "${CNITEST_ACCEL:-}" ]; then
		CNITEST_ACCEL=tcg
		! kvm_works || CNITEST_ACCEL=kvm
		export CNITEST_ACCEL
	fi
	echo "machines of $CNITEST_BOX with $CNITEST_ACCEL, on a libvirt of their own"
	;;&
run | inside | shell)
	case $task in
	run) with_machines run_suite ;;
	shell) with_machines "${SHELL:-bash}" ;;
	esac
	;;
*)
	echo "usage: e2e.sh box|run|shell" >&2
	exit 2
	;;
esac
