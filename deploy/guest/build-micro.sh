#!/bin/sh
# build-micro.sh - build the micro guest image from Debian 12 packages
#
#	build-micro.sh OUTPUT_DIR [--work DIR] [--arm64]
#
# Writes vmlinuz, initrd and manifest.json to OUTPUT_DIR, all three or none: they
# are made in a folder beside it, which is then renamed.  Packages are kept in
# the work folder and reused while their digest is the one apt knows.  Needs no
# root and makes no device nodes: the guest mounts devtmpfs.  The same packages
# give the same bytes.
#
# --arm64 on an amd64 machine assembles an image for the other architecture; none
# of its programs is run for that.  Its packages come by lists of their own in the
# work folder, so that nothing has to be added to this machine's apt or dpkg.
#
# Needs apt-get, dpkg-deb, sha256sum, gzip, awk, find, sort; cpio is taken from
# its package if it is not installed; with --arm64 also readelf.

set -eu
here=$(cd "$(dirname "$0")" && pwd)
label=micro
files="vmlinuz initrd"
arguments=" [--arm64]"
# shellcheck source=deploy/guest/builder.sh
. "$here/builder.sh"

# Part of the output's bytes: any fixed moment does.
source_date=${SOURCE_DATE_EPOCH:-1700000000}

command_line="quiet ipv6.disable=1 panic=-1 mitigations=off nokaslr random.trust_cpu=on cryptomgr.notests"

# Besides the kernel.  The libraries are those which the programs name;
# check_libraries below notices a missing one.
packages="busybox-static wireguard-tools iptables libxtables12 libip4tc2 libip6tc2
	netcat-openbsd libbsd0 libmd0 dropbear-bin libtomcrypt1 libtommath1 libgmp10 libcrypt1 zlib1g libc6"
programs="usr/bin/wg usr/sbin/xtables-legacy-multi usr/sbin/dropbear usr/bin/dropbearkey
	bin/nc.openbsd"
libraries="libbsd.so.0 libc.so.6 libcrypt.so.1 libgmp.so.10 libip4tc.so.2 libip6tc.so.2 libmd.so.0
	libresolv.so.2 libtomcrypt.so.1 libtommath.so.1 libxtables.so.12 libz.so.1"
extensions="libxt_standard libxt_tcp libxt_udp libxt_limit libxt_LOG libipt_icmp"

set_architecture() {
	case $architecture in
	amd64)
		machine=x86_64
		triplet=x86_64-linux-gnu
		interpreter=usr/lib64/ld-linux-x86-64.so.2
		command_line="console=ttyS0 $command_line 8250.nr_uarts=1 no_timer_check noreplace-smp tsc=reliable"
		;;
	arm64)
		machine=aarch64
		triplet=aarch64-linux-gnu
		interpreter=usr/lib/ld-linux-aarch64.so.1
		# The last one that there is: hvc0 under Virtualization.framework, else QEMU's.
		command_line="console=ttyAMA0 console=hvc0 $command_line"
		;;
	*) die "an image for $architecture cannot be built: amd64 and arm64 can" ;;
	esac
}

check_tools() {
	need apt-get apt
	need apt-cache apt
	need dpkg-deb dpkg
	need tar tar
	need sha256sum coreutils
	need gzip gzip
	need awk mawk
	need find findutils
	[ "$architecture" = "$own" ] || need readelf binutils
}

# With --arm64 a state of apt's own below the work folder, as of a machine that has nothing installed.
set_apt() {
	apt_options="-o APT::Sandbox::User=root"
	[ "$architecture" != "$own" ] || return 0
	mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
	: >"$work/apt/status"
	apt_options="$apt_options -o APT::Architecture=$architecture -o Dir::State=$work/apt \
		-o Dir::State::Lists=$work/apt/lists -o Dir::State::status=$work/apt/status -o Dir::Cache=$work/apt/cache"
}

# apt NEEDS the lists.  Only root can fetch the machine's own; those of the other architecture nobody else keeps up to date.
refresh_lists() {
	kernel_name=linux-image-cloud-$architecture
	if [ "$architecture" = "$own" ]; then
		apt-cache show "$kernel_name" >/dev/null 2>&1 && return
		[ "$(id -u)" -eq 0 ] || die "apt knows no $kernel_name: run apt-get update as root"
	fi
	doing "running apt-get update for $architecture"
	# shellcheck disable=SC2086 # the options are words
	apt-get -qq $apt_options update || die "apt-get update failed"
	# shellcheck disable=SC2086 # the options are words
	apt-cache $apt_options show "$kernel_name" >/dev/null 2>&1 ||
		die "apt knows no $kernel_name: is this Debian 12 with component main?"
}

# fetch NAME DIGEST PACKAGE OPTIONS: see to it that the cache holds the file NAME
fetch() {
	[ ${#2} -eq 64 ] || die "apt states no SHA-256 for $3"
	[ -f "$cache/$1" ] && [ "$(file_digest "$cache/$1")" = "$2" ] && return
	mkdir "$temp/deb"
	# shellcheck disable=SC2086 # the options are words
	(cd "$temp/deb" && apt-get -qq $4 download "$3") ||
		die "cannot download $3: check the network, or run apt-get update as root"
	for file in "$temp"/deb/*.deb; do
		[ "$(file_digest "$file")" = "$2" ] || die "$3: wrong digest"
		mv "$file" "$cache/$1"
	done
	rmdir "$temp/deb"
}

# unpack TREE OPTIONS PACKAGE...: fetch packages with apt's options, and unpack them
unpack() {
	tree=$1
	options=$2
	shift 2
	mkdir "$tree"
	# One line each: 'URI' NAME SIZE SHA256:HEX, from a list that apt has verified.
	# A file that lies in the current folder is left out, hence one without any.
	# shellcheck disable=SC2086 # the options are words
	(cd "$temp" && apt-get -qq $options --print-uris download "$@") >"$temp/uris" ||
		die "a package is unknown: run apt-get update as root"
	while read -r _ name _ digest; do
		fetch "$name" "${digest#SHA256:}" "${name%%_*}" "$options"
		dpkg-deb -x "$cache/$name" "$tree" || die "cannot unpack $cache/$name"
	done <"$temp/uris"
}

# The guest's packages in $temp/tree, and what is run here: cpio and a BusyBox, which is the guest's own if that can run.
unpack_packages() {
	# shellcheck disable=SC2086 # the options are words
	kernel_package=$(apt-cache $apt_options depends "$kernel_name" | awk '/Depends: linux-image-/ { print $2; exit }')
	[ "$kernel_package" ] || die "$kernel_name names no kernel package"
	# shellcheck disable=SC2086 # the names are words
	unpack "$temp/tree" "$apt_options" "$kernel_package" $packages
	step "$(wc -l <"$temp/uris") packages at hand, kernel ${kernel_package#linux-image-}"
	tools=""
	[ "$architecture" = "$own" ] || tools="busybox-static"
	command -v cpio >/dev/null || tools="$tools cpio"
	busybox=$temp/tree/bin/busybox
	cpio=cpio
	[ "$tools" ] || return 0
	# shellcheck disable=SC2086 # the names are words
	unpack "$temp/tools" "-o APT::Sandbox::User=root" $tools
	[ "$architecture" = "$own" ] || busybox=$temp/tools/bin/busybox
	command -v cpio >/dev/null || cpio=$temp/tools/bin/cpio
}

# copy SOURCE TARGET MODE, TARGET inside the root of the guest
copy() {
	mkdir -p "$(dirname "$root/$2")"
	cp -L "$1" "$root/$2" || die "missing in the packages: $1"
	chmod "$3" "$root/$2"
}

# A library may stand in /lib or in /usr/lib of the packages.
copy_library() {
	for dir in "lib/$triplet" "usr/lib/$triplet"; do
		[ -e "$temp/tree/$dir/$1" ] || continue
		copy "$temp/tree/$dir/$1" "usr/lib/$triplet/$1" 755
		return
	done
	die "no package brings $1"
}

make_folders() {
	for dir in dev proc sys run tmp root home etc/dropbear etc/wireguard var/log usr/bin usr/lib64 \
		var/lib/dpkg/info; do
		mkdir -p "$root/$dir"
	done
	# BusyBox's dpkg, for packages that come in the seed volume, wants a list of what is there.
	: >"$root/var/lib/dpkg/status"
	chmod 1777 "$root/tmp"
	chmod 700 "$root/root" "$root/etc/wireguard" "$root/etc/dropbear"
	ln -s usr/bin "$root/bin"
	ln -s usr/bin "$root/sbin"
	ln -s bin "$root/usr/sbin"
	ln -s usr/lib "$root/lib"
	ln -s usr/lib64 "$root/lib64"
	ln -s ../run "$root/var/run"
}

copy_programs() {
	copy "$temp/tree/bin/busybox" usr/bin/busybox 755
	# init and linuxrc are of no use here.
	for applet in $("$busybox" --list); do
		case $applet in
		busybox | init | linuxrc) ;;
		*) ln -s busybox "$root/usr/bin/$applet" ;;
		esac
	done
	for program in $programs; do
		copy "$temp/tree/$program" "usr/bin/${program##*/}" 755
	done
	for name in iptables iptables-restore iptables-save; do
		ln -s xtables-legacy-multi "$root/usr/bin/$name"
	done
	for library in $libraries; do
		copy_library "$library"
	done
	copy "$temp/tree/lib/$triplet/${interpreter##*/}" "$interpreter" 755
	for extension in $extensions; do
		copy "$temp/tree/usr/lib/$triplet/xtables/$extension.so" "usr/lib/$triplet/xtables/$extension.so" 644
	done
}

# What another machine's programs and libraries name is looked for, for its loader does not run here.
check_names() {
	mkdir "$temp/named"
	for program in $programs; do
		ln -s "$root/usr/bin/${program##*/}" "$temp/named/"
	done
	for file in "$temp"/named/* "$root/usr/lib/$triplet"/*.so*; do
		readelf -d "$file" >"$temp/list" || die "${file##*/} is no program"
		sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' "$temp/list" >"$temp/names"
		while read -r library; do
			[ -e "$root/usr/lib/$triplet/$library" ] || [ "$library" = "${interpreter##*/}" ] ||
				die "${file##*/} needs $library, which the image does not have"
		done <"$temp/names"
	done
}

# The guest's own loader resolves each program, among the guest's libraries only.
check_libraries() {
	if [ "$architecture" != "$own" ]; then
		check_names
		return
	fi
	for program in $programs; do
		"$root/$interpreter" --inhibit-cache --library-path "$root/usr/lib/$triplet" \
			--list "$root/usr/bin/${program##*/}" >"$temp/list" 2>&1 ||
			die "${program##*/}: $(grep -m 1 'not found\|cannot' "$temp/list")"
		if grep '=>' "$temp/list" | grep -v -F "$root" >&2; then
			die "${program##*/} needs a library that the image does not have"
		fi
	done
}

copy_modules() {
	version=${kernel_package#linux-image-}
	from=$temp/tree/lib/modules/$version
	[ -d "$from" ] || die "$kernel_package brings no modules for $version"
	"$busybox" depmod -b "$temp/tree" "$version" || die "depmod failed"
	# shellcheck source=/dev/null
	. "$here/micro/modules"
	# modules.dep lists all that a module needs, so one look per name is enough.
	# shellcheck disable=SC2154 # set by the file read above
	for module in $modules_base $modules_firewall $modules_network $modules_tunnel; do
		awk -v want="/$module.ko:" '
			substr($1, length($1) - length(want) + 1) == want {
				for (i = 1; i <= NF; i++) { sub(/:$/, "", $i); print $i }
				found = 1
			}
			END { exit !found }
		' "$from/modules.dep" || die "no module $module in $kernel_package"
	done >"$temp/found" # not a pipe: what dies in there would end nothing else
	sort -u "$temp/found" >"$temp/modules"
	[ -s "$temp/modules" ] || die "no modules selected"
	while read -r module; do
		copy "$from/$module" "usr/lib/modules/$version/$module" 644
	done <"$temp/modules"
	# Sorted: depmod writes in the order of the folder it read.
	awk 'NR == FNR { want[$1 ":"] = 1; next } $1 in want' "$temp/modules" "$from/modules.dep" |
		sort >"$root/usr/lib/modules/$version/modules.dep"
}

copy_guest_files() {
	copy "$here/micro/init" init 755
	copy "$here/micro/wg-quick" usr/bin/wg-quick 755
	# The name by which BusyBox acpid finds what a power button does.
	copy "$here/micro/power-off" etc/acpi/PWRF/00000080 755
	copy "$here/micro/cloud-config.awk" usr/lib/omertad-guest/cloud-config.awk 644
	copy "$here/micro/modules" usr/lib/omertad-guest/modules 644
	echo "root:*:0:0:root:/root:/bin/sh" >"$root/etc/passwd"
	echo "root:x:0:" >"$root/etc/group"
	echo "/bin/sh" >"$root/etc/shells"
	echo "127.0.0.1 localhost" >"$root/etc/hosts"
}

pack_initrd() {
	find "$root" -exec touch -h -d "@$source_date" {} +
	# --reproducible leaves inode and device numbers of this machine out.  With
	# "." in it: the kernel makes the root folder writable for all otherwise.
	(cd "$root" && find . -print0 | sort -z |
		"$cpio" --quiet --null -o -H newc -R 0:0 --reproducible) >"$temp/initrd.cpio" ||
		die "cpio failed"
	gzip -9 -n <"$temp/initrd.cpio" >"$new/initrd"
	step "initrd: $(wc -c <"$temp/initrd.cpio") bytes unpacked, $(wc -c <"$new/initrd") packed"
}

write_manifest() {
	cat >"$new/manifest.json" <<END
{
  "name": "micro",
  "description": "BusyBox, WireGuard and SSH on the Debian cloud kernel, in memory",
  "architecture": "$machine",
  "boot": "kernel",
  "kernel": $(file_entry vmlinuz),
  "initrd": $(file_entry initrd),
  "command_line": "$command_line",
  "min_memory_mib": 96,
  "ready_line": "omertad-guest: ready"
}
END
}

# A hypervisor loads an arm64 kernel as it is, unpacked.  Source: Documentation/arm64/booting.rst
check_kernel() {
	[ "$architecture" = amd64 ] || [ "$(dd if="$new/vmlinuz" bs=4 skip=14 count=1 2>/dev/null)" = ARMd ] ||
		die "$kernel_package brings no unpacked Image"
}

own=$(dpkg --print-architecture)
architecture=$own
take_option() {
	[ "$1" = --arm64 ] && architecture=arm64
}

take_arguments "$@"
set_architecture
if is_current && grep -q "\"architecture\": \"$machine\"" "$output/manifest.json"; then
	step "$output is up to date"
	exit 0
fi
check_tools
check_output
prepare
root=$temp/root
mkdir "$root"

set_apt
refresh_lists
doing "fetching and unpacking packages"
unpack_packages
doing "copying programs and libraries"
make_folders
copy_programs
check_libraries
step "programs and libraries copied"
doing "copying kernel modules"
copy_modules
copy_guest_files
step "$(wc -l <"$temp/modules") kernel modules copied"
cp "$temp/tree/boot/vmlinuz-$version" "$new/vmlinuz"
chmod 644 "$new/vmlinuz"
check_kernel
doing "packing the initrd"
pack_initrd
write_manifest
finish
