# builder.sh - what the builders of guest images share; read by them, not run
#
# The caller has set: here (its folder), label (its short name), files (what the
# image's folder holds besides manifest.json), arguments (its usage); it defines
# take_option WORD (fails for one that it does not know) and calls take_arguments,
# prepare, its own work, and finish.
#
# On a terminal a line tells what goes on and for how long, in its place; elsewhere
# each line stays.
# shellcheck shell=sh disable=SC2154 # set by who reads this

LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin # mke2fs, which Debian keeps from an ordinary user's
export LC_ALL PATH
umask 022
ticker=
output=
work=
new=
old=
temp=

# End the line of what went on.
quiet() {
	[ "$ticker" ] || return 0
	kill "$ticker" 2>/dev/null || :
	wait "$ticker" 2>/dev/null || :
	ticker=
	printf '\r\033[K'
}

# doing TEXT: it begins, and takes until the next word of ours
doing() {
	quiet
	if ! [ -t 1 ]; then
		echo "$label: $* ..."
		return
	fi
	began=$(date +%s)
	# Not longer than this process, whatever ends it.
	while kill -0 $$ 2>/dev/null; do
		printf '\r\033[K%s: %s ... %s s' "$label" "$*" "$(($(date +%s) - began))"
		sleep 1
	done 2>/dev/null & # ended in the middle of it, date would say so
	ticker=$!
}

step() {
	quiet
	echo "$label: $*"
}

die() {
	quiet
	echo "build-$label.sh: $*" >&2
	exit 1
}

usage() {
	die "usage: build-$label.sh OUTPUT_DIR [--work DIR]$arguments"
}

# need TOOL PACKAGE
need() {
	command -v "$1" >/dev/null || die "$1 is missing: apt-get install $2"
}

file_digest() {
	sha256sum <"$1" | cut -d ' ' -f 1
}

# The files are newer than what they are made from, and the manifest has their digests, one a line.
is_current() {
	for file in $files manifest.json; do
		[ -f "$output/$file" ] || return 1
		[ -z "$(find "$here/build-$label.sh" "$here/builder.sh" "$here/$label" -newer "$output/$file")" ] || return 1
	done
	for file in $files; do
		grep -q "\"sha256\": \"$(file_digest "$output/$file")\"" "$output/manifest.json" || return 1
	done
}

# The rename at the end replaces the whole folder, so it must be ours. check_output [FIND_WORD...]: besides the files
check_output() {
	[ -e "$output" ] || return 0
	[ -d "$output" ] || die "$output is not a folder"
	for file in $files manifest.json; do
		set -- "$@" ! -name "$file"
	done
	[ -z "$(find "$output" -mindepth 1 "$@")" ] || die "$output holds other files than an image: name a folder of its own"
}

# file_entry NAME [MEMBER]: as the manifest has it
file_entry() {
	printf '{\n    "file": "%s",\n%s    "sha256": "%s",\n    "bytes": %s\n  }' \
		"$1" "${2:-}" "$(file_digest "$new/$1")" "$(wc -c <"$new/$1")"
}

take_arguments() {
	while [ $# -gt 0 ]; do
		case $1 in
		--work)
			[ $# -ge 2 ] || usage
			work=$2
			shift
			;;
		-*) take_option "$1" || usage ;;
		*)
			[ -z "$output" ] || usage
			output=${1%/}
			;;
		esac
		shift
	done
	[ "$output" ] || usage
	need sha256sum coreutils
}

clean_up() {
	quiet
	# Interrupted between the two renames, the old image is put back.
	[ -e "$old" ] && ! [ -e "$output" ] && mv "$old" "$output"
	rm -rf "$temp" "$new"
}

# Folders for the work, which go away however it ends; cache stays.
prepare() {
	if [ -z "$work" ]; then
		[ "${XDG_CACHE_HOME:-${HOME:-}}" ] || die "HOME is not set: name a work folder with --work"
		work=${XDG_CACHE_HOME:-$HOME/.cache}/omertad/$label
	fi
	cache=$work/cache
	# What is not there yet is made for this user alone: the daemon starts with no data folder that others can read.
	(umask 077 && mkdir -p "$cache" "$(dirname "$output")") || die "cannot write to $work or $(dirname "$output")"
	work=$(cd "$work" && pwd)
	cache=$work/cache
	output=$(cd "$(dirname "$output")" && pwd)/$(basename "$output")
	old=$output.old.$$
	new=$output.new.$$
	temp=$(mktemp -d "$work/build.XXXXXX")
	trap clean_up EXIT
	trap 'exit 1' HUP INT TERM
	mkdir "$new"
}

# The new image takes the old one's place.
finish() {
	if [ -e "$output" ]; then
		mv "$output" "$old"
		mv "$new" "$output"
		rm -rf "$old"
	else
		mv "$new" "$output"
	fi
	step "$output is ready"
}
