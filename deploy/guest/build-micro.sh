#!/bin/sh
# build-micro.sh - build the micro guest image from Debian 12 packages
#
#	build-micro.sh OUTPUT_DIR [--work DIR]
#
# Writes vmlinuz, initrd and manifest.json to OUTPUT_DIR, all three or none: they
# are made in a folder beside it, which is then renamed.  Packages are kept in
# the work folder and reused while their digest is the one apt knows.  Needs no
# root and makes no device nodes: the guest mounts devtmpfs.  The same packages
# give the same bytes.
#
# Needs apt-get, dpkg-deb, sha256sum, gzip, awk, find, sort; cpio is taken from
# its package if it is not installed.

set -eu
here=$(cd "$(dirname "$0")" && pwd)
label=micro
files="vmlinuz initrd"
arguments=""
# shellcheck source=deploy/guest/builder.sh
. "$here/builder.sh"

# Part of the output's bytes: any fixed moment does.
source_date=${SOURCE_DATE_EPOCH:-1700000000}

command_line="console=ttyS0 quiet ipv6.disable=1 panic=-1 mitigations=off 8250.nr_uarts=1 \
no_timer_check noreplace-smp tsc=reliable nokaslr random.trust_cpu=on cryptomgr.notests"

# Besides the kernel.  The libraries are those which the programs name;
# check_libraries below notices a missing one.
packages="busybox-static wireguard-tools iptables libxtables12 libip4tc2 libip6tc2
	netcat-openbsd libbsd0 libmd0 dropbear-bin libtomcrypt1 libtommath1 libgmp10 libcrypt1 zlib1g libc6"
programs="usr/bin/wg usr/sbin/xtables-legacy-multi usr/sbin/dropbear usr/bin/dropbearkey
	bin/nc.openbsd"
libraries="libbsd.so.0 libc.so.6 libcrypt.so.1 libgmp.so.10 libip4tc.so.2 libip6tc.so.2 libmd.so.0
	libresolv.so.2 libtomcrypt.so.1 libtommath.so.1 libxtables.so.12 libz.so.1"
extensions="libxt_standard libxt_tcp libxt_udp libxt_limit libxt_LOG libipt_icmp"

check_tools() {
	need apt-get apt
	need apt-cache apt
	need dpkg-deb dpkg
	need tar tar
	need sha256sum coreutils
	need gzip gzip
	need awk mawk
	need find findutils
	[ "$(dpkg --print-architecture)" = amd64 ] || die "the image is built on amd64 only"
}

# apt NEEDS the lists; only root can fetch them.
refresh_lists() {
	apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 && return
	[ "$(id -u)" -eq 0 ] || die "apt knows no linux-image-cloud-amd64: run apt-get update as root"
	doing "apt lists are empty, running apt-get update"
	apt-get -qq update || die "apt-get update failed"
	apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 ||
		die "apt knows no linux-image-cloud-amd64: is this Debian 12 with component main?"
}

# fetch NAME DIGEST PACKAGE: see to it that the cache holds the file NAME
fetch() {
	[ ${#2} -eq 64 ] || die "apt states no SHA-256 for $3"
	[ -f "$cache/$1" ] && [ "$(file_digest "$cache/$1")" = "$2" ] && return
	mkdir "$temp/deb"
	# Root would otherwise be warned that _apt cannot write here.
	(cd "$temp/deb" && apt-get -qq -o APT::Sandbox::User=root download "$3") ||
		die "cannot download $3: check the network, or run apt-get update as root"
	for file in "$temp"/deb/*.deb; do
		[ "$(file_digest "$file")" = "$2" ] || die "$3: wrong digest"
		mv "$file" "$cache/$1"
	done
	rmdir "$temp/deb"
}

unpack_packages() {
	kernel_package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ { print $2; exit }')
	[ "$kernel_package" ] || die "linux-image-cloud-amd64 names no kernel package"
	wanted="$kernel_package $packages"
	if command -v cpio >/dev/null; then
		cpio=cpio
	else
		wanted="$wanted cpio"
		cpio=$temp/tree/bin/cpio
	fi
	# One line each: 'URI' NAME SIZE SHA256:HEX, from a list that apt has verified.
	# A file that lies in the current folder is left out, hence one without any.
	# shellcheck disable=SC2086 # the names are words
	(cd "$temp" && apt-get -qq --print-uris download $wanted) >"$temp/uris" ||
		die "a package is unknown: run apt-get update as root"
	while read -r _ name _ digest; do
		fetch "$name" "${digest#SHA256:}" "${name%%_*}"
		dpkg-deb -x "$cache/$name" "$temp/tree" || die "cannot unpack $cache/$name"
	done <"$temp/uris"
	step "$(wc -l <"$temp/uris") packages at hand, kernel ${kernel_package#linux-image-}"
}

# copy SOURCE TARGET MODE, TARGET inside the root of the guest
copy() {
	mkdir -p "$(dirname "$root/$2")"
	cp -L "$1" "$root/$2" || die "missing in the packages: $1"
	chmod "$3" "$root/$2"
}

# A library may stand in /lib or in /usr/lib of the packages.
copy_library() {
	for dir in lib/x86_64-linux-gnu usr/lib/x86_64-linux-gnu; do
		[ -e "$temp/tree/$dir/$1" ] || continue
		copy "$temp/tree/$dir/$1" "usr/lib/x86_64-linux-gnu/$1" 755
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
	copy "$busybox" usr/bin/busybox 755
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
	copy "$temp/tree/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" usr/lib64/ld-linux-x86-64.so.2 755
	for extension in $extensions; do
		copy "$temp/tree/usr/lib/x86_64-linux-gnu/xtables/$extension.so" \
			"usr/lib/x86_64-linux-gnu/xtables/$extension.so" 644
	done
}

# The guest's own loader resolves each program, among the guest's libraries only.
check_libraries() {
	for program in $programs; do
		"$root/usr/lib64/ld-linux-x86-64.so.2" --inhibit-cache \
			--library-path "$root/usr/lib/x86_64-linux-gnu" \
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
	done | sort -u >"$temp/modules"
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
  "architecture": "x86_64",
  "boot": "kernel",
  "kernel": $(file_entry vmlinuz),
  "initrd": $(file_entry initrd),
  "command_line": "$command_line",
  "min_memory_mib": 96,
  "ready_line": "omertad-guest: ready"
}
END
}

take_option() {
	return 1
}

take_arguments "$@"
if is_current; then
	step "$output is up to date"
	exit 0
fi
check_tools
check_output
prepare
root=$temp/root
busybox=$temp/tree/bin/busybox
mkdir "$temp/tree" "$root"

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
doing "packing the initrd"
pack_initrd
write_manifest
finish
