#!/bin/bash
# Builds a small Debian box for Vagrant and libvirt from Debian packages, for machines that cannot fetch one:
#
#	build.sh OUT.box
#
# The box boots its kernel without a boot loader, and starts a shell script in place of systemd: on an emulated
# processor sshd answers after 15 seconds instead of 90. Needs root, mmdebstrap, e2fsprogs, qemu-utils, cpio and
# busybox-static.
set -euo pipefail

box=$(realpath -m "$1")
here=$(cd "$(dirname "$0")" && pwd)
suite=${CNITEST_SUITE:-bookworm}
work=$(mktemp -d "$(dirname "$box")/box.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'echo "build.sh: line $LINENO: exit status $?" >&2' ERR
root=$work/root

# vagrant_key prints the public key with which every `vagrant up` logs in for the first time.
vagrant_key() {
	local key
	# The packages of Debian, of other distributions and of the vendor have it in different places, and find misses
	# some.
	key=$(find /usr/share/rubygems-integration /usr/share/vagrant /opt/vagrant -path '*/keys/vagrant.pub' -print -quit 2>/dev/null) || true
	[ -n "$key" ] || { echo "build.sh: no keys/vagrant.pub of vagrant found; install vagrant" >&2; exit 3; }
	cat "$key"
}

# iptables is for the plugins portmap and firewall, systemd for networkd, which a test can start.
packages=sysvinit-core,openssh-server,sudo,iproute2,ifupdown,udhcpc,busybox,kmod,udev,systemd,procps,e2fsprogs,iptables,linux-image-cloud-amd64
INITRD=No mmdebstrap --quiet --mode=root --variant=apt --format=directory --include="$packages" \
	--aptopt='Apt::Install-Recommends "false"' \
	--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
	"$suite" "$root"

chroot "$root" useradd --create-home --shell /bin/bash vagrant
# No password, and not locked: for locked accounts sshd refuses the key, too.
chroot "$root" usermod --password '*' vagrant
install -d -m 700 "$root/home/vagrant/.ssh"
vagrant_key >"$root/home/vagrant/.ssh/authorized_keys"
chmod 600 "$root/home/vagrant/.ssh/authorized_keys"
chroot "$root" chown -R vagrant:vagrant /home/vagrant/.ssh
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/vagrant"
chmod 440 "$root/etc/sudoers.d/vagrant"
echo 'UseDNS no' >>"$root/etc/ssh/sshd_config"

echo cnitest >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 cnitest\n' >"$root/etc/hosts"
echo '/dev/vda / ext4 noatime 0 0' >"$root/etc/fstab"
install -m 644 "$here/interfaces" "$root/etc/network/interfaces"
install -m 644 "$here/inittab" "$root/etc/inittab"
install -m 755 "$here/cnitest-boot" "$here/cnitest-off" "$root/sbin/"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb

# The initrd has the modules needed to mount the disk, in the order of their dependencies.
initrd=$work/initrd
mkdir -p "$initrd"/{bin,dev,proc,sys,root,modules}
cp /bin/busybox "$initrd/bin/busybox"
install -m 755 "$here/init" "$initrd/init"
n=10
for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk crc32c_generic mbcache jbd2 ext4; do
	file=$(find "$root/lib/modules" -name "$module.ko*" -print -quit)
	case $file in
	'') ;; # built in, or of another kernel
	*.xz) xz -dc "$file" >"$initrd/modules/$n-$module.ko" ;;
	*) cp "$file" "$initrd/modules/$n-$module.ko" ;;
	esac
	n=$((n + 1))
done
mknod "$initrd/dev/console" c 5 1
(cd "$initrd" && find . | cpio --quiet -o -H newc) | gzip -9 >"$work/initrd.img"

cp -L "$root/vmlinuz" "$work/vmlinuz"
truncate -s 2G "$work/disk.raw"
# -d fills the file system without a mount.
mke2fs -q -t ext4 -O ^has_journal -L root -d "$root" -F "$work/disk.raw"
qemu-img convert -O qcow2 "$work/disk.raw" "$work/box.img"
echo '{"provider": "libvirt", "format": "qcow2", "virtual_size": 2}' >"$work/metadata.json"
cp "$here/Vagrantfile" "$work/Vagrantfile"
tar -C "$work" -czf "$box.new" metadata.json Vagrantfile box.img vmlinuz initrd.img
mv "$box.new" "$box"
echo "$box: $(du -h "$box" | cut -f1), $(basename "$root"/lib/modules/*)"
