#!/bin/sh
# bare-root.sh PACKAGE.deb FOLDER - the smallest Debian with what a package depends on (the first of alternatives), without it,
# and with systemd, which runs its service.
#
# Made beside FOLDER and then renamed; root only, because a user's namespace would not let a test install into it.
set -eu

package=$1
folder=$2
depends=$(dpkg-deb --field "$package" Depends | sed 's/([^)]*)//g; s/|[^,]*//g; s/[[:space:]]//g')
mkdir -p "$(dirname "$folder")"
rm -rf "$folder" "$folder.part"
mmdebstrap --quiet --mode=root --variant=minbase --include="$depends,systemd" bookworm "$folder.part"
mv "$folder.part" "$folder"
