#!/bin/sh
# build-debian.sh - build the production guest image: Debian 12 with real cloud-init
#
#	build-debian.sh OUTPUT_DIR [--work DIR] [--without-packages]
#
# Writes vmlinuz, initrd, disk.qcow2 and manifest.json to OUTPUT_DIR, all or none:
# they are made in a folder beside it, which is then renamed.  The image's name is
# that of the folder.  Packages are kept in the work folder.  Nothing is mounted
# here but what mmdebstrap mounts in a namespace of its own, and no device node is
# made, so an ordinary user with subordinate ids (newuidmap) can run it as well.
#
# --without-packages leaves wireguard-tools and iptables out of the image, for
# leases whose guest installs them at boot.  OUTPUT_DIR/packages then holds them
# and what they need as .deb files.
#
# Needs mmdebstrap, mke2fs 1.43, qemu-img, tar, sha256sum; uidmap unless root.

set -eu
here=$(cd "$(dirname "$0")" && pwd)
label=debian
files="vmlinuz initrd disk.qcow2"
arguments=" [--without-packages]"
# shellcheck source=deploy/guest/builder.sh
. "$here/builder.sh"

tunnel_packages="wireguard-tools iptables"
packages="systemd systemd-sysv udev kmod netbase iproute2 cloud-init openssh-server acpid linux-image-cloud-amd64
	initramfs-tools zstd"
# A guest's root file system; what a tenant stores on it beyond the image lands in the lease's own overlay.
disk_mib=2048

# 8250.nr_uarts to tsc: less probing and patching, which is dear under emulation.
command_line="root=LABEL=cloudimg-rootfs rw rootfstype=ext4 console=ttyS0 quiet net.ifnames=0 ipv6.disable=1 panic=-1 \
mitigations=off 8250.nr_uarts=1 no_timer_check noreplace-smp tsc=reliable nokaslr random.trust_cpu=on \
cryptomgr.notests selinux=0 apparmor=0 systemd.show_status=false rd.systemd.show_status=false"

# Units that a machine of some hours has no use for.
masked="getty@tty1.service serial-getty@ttyS0.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer
	e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-logind.service cloud-init-hotplugd.socket
	systemd-pstore.service systemd-update-utmp.service systemd-update-utmp-runlevel.service
	systemd-machine-id-commit.service keyboard-setup.service console-setup.service acpid.path
	getty-static.service systemd-binfmt.service systemd-journal-flush.service systemd-network-generator.service
	systemd-random-seed.service systemd-sysusers.service systemd-boot-system-token.service"
enabled="systemd-networkd.service acpid.service ssh.service omertad-firewall.service omertad-gate.service
	omertad-tunnel.service"

# Not installed: nobody reads manuals in there, and no such hardware is ever attached.
excluded="/usr/share/man/* /usr/share/doc/* /usr/share/locale/* /usr/share/info/* /usr/share/lintian/*
	/lib/modules/*/kernel/sound/* /lib/modules/*/kernel/drivers/gpu/* /lib/modules/*/kernel/drivers/infiniband/*
	/lib/modules/*/kernel/drivers/scsi/* /lib/modules/*/kernel/drivers/net/ethernet/*
	/lib/modules/*/kernel/drivers/hv/* /lib/modules/*/kernel/drivers/comedi/*
	/lib/modules/*/kernel/drivers/hid/*"

# A list without its line breaks.
one_line() {
	printf '%s' "$1" | tr -s '\n\t' '  '
}

check_tools() {
	need mmdebstrap mmdebstrap
	need mke2fs e2fsprogs
	need qemu-img qemu-utils
	need tar tar
	need awk mawk
	need find findutils
	[ "$(dpkg --print-architecture)" = amd64 ] || die "the image is built on amd64 only"
	[ "$(id -u)" -eq 0 ] && return
	need newuidmap uidmap
	unshare --user --map-root-user --map-auto true ||
		die "no user namespace with subordinate ids: run as root, or see subuid(5)"
}

# One word a line, in one place of the command line.
comma_list() {
	echo "$@" | tr -s ' ' ,
}

# What is done in the tree after the packages are in it; $1 is its root. It is given to mmdebstrap as text: as a file it would be
# read by a subordinate id, which an ordinary user's home is closed to.
print_hook() {
	cat <<END
set -eu
if [ "$without" ]; then
	mkdir "\$1/omertad-packages"
	chroot "\$1" apt-get -qq -o Dir::Cache::archives=/omertad-packages -o APT::Sandbox::User=root \
		--no-install-recommends --download-only install $tunnel_packages
	rm -rf "\$1"/omertad-packages/partial "\$1"/omertad-packages/lock
fi
for unit in $(one_line "$masked"); do
	ln -sf /dev/null "\$1/etc/systemd/system/\$unit"
done
chroot "\$1" systemctl --quiet enable $(one_line "$enabled")
mv "\$1"/boot/vmlinuz-* "\$1/omertad-vmlinuz"
mv "\$1"/boot/initrd.img-* "\$1/omertad-initrd"
rm -rf "\$1"/boot/* "\$1"/vmlinuz* "\$1"/initrd.img*
# Each machine makes its own, and knows no name and no resolver of the machine that built it.
rm -f "\$1"/etc/ssh/ssh_host_*_key* "\$1/etc/hostname" "\$1/etc/resolv.conf"
: >"\$1/etc/resolv.conf"
: >"\$1/etc/machine-id"
echo "127.0.0.1 localhost" >"\$1/etc/hosts"
echo "LABEL=cloudimg-rootfs / ext4 defaults,noatime 0 0" >"\$1/etc/fstab"
END
}

# The tree as a tar archive: it keeps owners whether or not we are root.
make_tree() {
	tar -C "$here/debian/tree" --owner=0 --group=0 --mode=u=rwX,go=rX -cf "$temp/overlay.tar" .
	wanted=$packages
	[ "$without" ] || wanted="$wanted $tunnel_packages"
	set -f -- # dpkg expands the patterns, not this shell
	for path in $excluded; do
		set -- "$@" "--dpkgopt=path-exclude=$path"
	done
	set +f
	# shellcheck disable=SC2016,SC2046,SC2086 # words, and a hook that has a $1 of its own
	mmdebstrap --variant=minbase --architectures=amd64 --include="$(comma_list $wanted)" "$@" \
		--dpkgopt=force-confold --dpkgopt=force-unsafe-io \
		--skip=essential/unlink --skip=output/dev \
		--setup-hook='mkdir -p "$1/var/cache/apt/archives"' \
		--setup-hook="sync-in $cache /var/cache/apt/archives/" \
		--essential-hook="tar-in $temp/overlay.tar /" \
		--customize-hook="sync-out /var/cache/apt/archives $cache" \
		--customize-hook="$(print_hook)" \
		--format=tar bookworm "$temp/tree.tar" >"$temp/log" 2>&1 ||
		{ tail -n 40 "$temp/log" >&2; die "mmdebstrap failed"; }
	step "$(wc -c <"$temp/tree.tar") bytes of Debian"
}

# Runs as root, or as one in a user namespace, with the work folder as $1: archive to file system, without a mount.
make_disk() {
	cat >"$temp/disk" <<'END'
set -eu
cd "$1"
mkdir tree
trap 'rm -rf tree' EXIT
tar -C tree --numeric-owner -xf tree.tar
rm tree.tar
mkdir tree/dev # left out of the archive: the guest mounts devtmpfs
mv tree/omertad-vmlinuz vmlinuz
mv tree/omertad-initrd initrd
if [ -d tree/omertad-packages ]; then
	mv tree/omertad-packages packages
fi
chown -R 0:0 vmlinuz initrd
# No journal: a machine's disk is thrown away with it, and never mounted a second time.
mke2fs -q -t ext4 -O ^has_journal -E lazy_itable_init=0,root_owner=0:0 -m 0 -L cloudimg-rootfs -d tree \
	disk.raw "$2M" >/dev/null
END
	if [ "$(id -u)" -eq 0 ]; then
		sh "$temp/disk" "$temp" "$disk_mib"
	else
		unshare --user --map-root-user --map-auto sh "$temp/disk" "$temp" "$disk_mib"
	fi || die "cannot make the file system"
	doing "packing the disk"
	qemu-img convert -q -c -W -m 4 -O qcow2 -o compression_type=zlib "$temp/disk.raw" "$new/disk.qcow2" ||
		die "qemu-img failed"
	rm "$temp/disk.raw"
	install -m 644 "$temp/vmlinuz" "$temp/initrd" "$new/"
	if [ "$without" ]; then
		mkdir "$new/packages"
		install -m 644 "$temp"/packages/*.deb "$new/packages/"
	fi
	step "disk: $(wc -c <"$new/disk.qcow2") bytes, initrd: $(wc -c <"$new/initrd")"
}

write_manifest() {
	description="Debian 12 with cloud-init, WireGuard and SSH"
	[ -z "$without" ] || description="Debian 12 with cloud-init and SSH; WireGuard and iptables are installed at boot"
	cat >"$new/manifest.json" <<END
{
  "name": "$(basename "$output")",
  "description": "$description",
  "architecture": "x86_64",
  "boot": "kernel",
  "kernel": $(file_entry vmlinuz),
  "initrd": $(file_entry initrd),
  "disk": $(file_entry disk.qcow2 '    "format": "qcow2",
'),
  "command_line": "$command_line",
  "min_memory_mib": 384,
  "ready_line": "omertad-guest: ready"
}
END
}

without=
take_option() {
	[ "$1" = --without-packages ] && without=yes
}

take_arguments "$@"
case $(basename "$output") in
[!a-z0-9]* | *[!a-z0-9._-]*) die "$(basename "$output") is not an image's name: a-z, 0-9, dot, dash and underline" ;;
esac
# With a folder of packages exactly when they are left out of the image.
has=
[ ! -d "$output/packages" ] || has=yes
if [ "$has" = "$without" ] && is_current; then
	step "$output is up to date"
	exit 0
fi
check_tools
check_output ! -name packages ! -path "$output/packages/*.deb"
prepare

doing "fetching and installing Debian's packages"
make_tree
doing "making the file system"
make_disk
write_manifest
finish
