#!/bin/sh
# build-deb.sh DIR VERSION - make a Debian package of what `make install PREFIX=/usr` put into DIR/root
#
# Writes DIR/omertad_VERSION_ARCH.deb. A user's service and no maintainer scripts: nothing runs at installation, and what
# leases leave behind is each user's own. Needs dpkg-dev.
set -eu
LC_ALL=C
export LC_ALL
umask 022

dir=$1
version=$2
root=$dir/root
doc=$root/usr/share/doc/omertad
architecture=$(dpkg --print-architecture)
# The moment of the last commit, so that the same tree gives the same bytes.
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH
maintainer="omertad maintainers <maintainers@omertad.invalid>"

strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root/usr/bin/omertad"

cat >"$doc/copyright" <<END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: omertad

Files: *
Copyright: $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y) the omertad authors
License: Apache-2.0
 On Debian systems the text of the Apache License, version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.
END
{
    echo "omertad ($version) stable; urgency=medium"
    echo
    echo "  * Version $version."
    echo
    echo " -- $maintainer  $(date -u -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$doc/changelog.gz"
gzip -9n "$root"/usr/share/man/man1/omertad.1 "$root"/usr/share/man/man5/omertad.json.5
chmod 644 "$doc/copyright" "$doc/changelog.gz" "$root"/usr/share/man/man?/*

# dpkg-shlibdeps wants the source package's control file where it is called.
mkdir -p "$dir/source/debian"
printf 'Source: omertad\n\nPackage: omertad\nArchitecture: any\n' >"$dir/source/debian/control"
libraries=$(cd "$dir/source" && dpkg-shlibdeps -O ../root/usr/bin/omertad | sed -n 's/^shlibs:Depends=//p')

mkdir -p "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<END
Package: omertad
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Depends: $libraries, qemu-system-x86
Recommends: passt, nftables, iproute2, ca-certificates, cpio, zstd
Suggests: mmdebstrap, e2fsprogs, qemu-utils, wireguard-tools
Section: net
Priority: optional
Description: lease virtual machines without trusting them
 omertad runs machines for strangers. A machine's only way out is a WireGuard
 tunnel, made inside it, to one consumer; every Ethernet frame passes a thread
 of the daemon that forwards what the lease's allowlist holds and nothing else.
 .
 It runs as a service of an ordinary user and is spoken to over HTTP.
END
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
chmod 644 "$root/DEBIAN"/*
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

dpkg-deb --root-owner-group --build "$root" "$dir/omertad_${version}_$architecture.deb"
