#!/bin/sh
# install-deps.sh [GROUP...] - install what is missing of: build, run, image, arm64, debian, test, contract, proof, fuzz, cover, lint, deb
# (default: all but arm64, debian, proof, fuzz, cover and deb).
#
# Says what it does; does nothing when all is there. Debian and Ubuntu: apt (with sudo unless root). macOS: prints the
# Homebrew line, because Homebrew refuses to run for somebody else.
set -eu

packages_of() {
    case $1 in
        build) echo "gcc make pkg-config libc6-dev libmicrohttpd-dev libjansson-dev libsqlite3-dev libsodium-dev libisofs-dev libseccomp-dev" ;;
        run) echo "qemu-system-x86 ca-certificates passt nftables iproute2" ;;
        debian) echo "mmdebstrap e2fsprogs qemu-utils uidmap xz-utils" ;;
        arm64) echo "qemu-system-arm binutils" ;;
        image) echo "cpio gzip dpkg xz-utils zstd" ;;
        test) echo "libcmocka-dev python3 python3-jsonschema python3-yaml curl jq sqlite3 wireguard-go wireguard-tools openssh-client util-linux uidmap procps binutils tshark mandoc zsh systemd dpkg-dev lintian chromium fonts-dejavu-core gnuplot-nox munge slurm-client slurmctld slurmd" ;;
        # Node.js from elsewhere brings npm with it, and Debian's npm would not fit beside it.
        contract) command -v npm >/dev/null || echo "nodejs npm" ;;
        deb) echo "dpkg-dev lintian" ;;
        proof) echo "frama-c-base why3 z3 cvc4 python3 gcc" ;;
        cover) echo "clang-14 llvm-14 libclang-rt-14-dev python3" ;;
        fuzz) echo "clang-14 libclang-rt-14-dev python3" ;;
        lint) echo "clang-format clang-tidy shellcheck" ;;
        *)
            echo "install-deps.sh: $1: no such group (build run image arm64 debian test contract proof fuzz cover lint deb)" >&2
            exit 2
            ;;
    esac
}

brew_line="brew install pkg-config libmicrohttpd jansson sqlite libsodium cmocka vfkit wireguard-go wireguard-tools python3 xorriso"

[ $# -gt 0 ] || set -- build run image test contract lint
wanted=""
for group in "$@"; do
    wanted="$wanted $(packages_of "$group")"
done

if [ "$(uname -s)" = Darwin ]; then
    echo "install-deps.sh: on macOS run: $brew_line"
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "install-deps.sh: no apt-get here; install the equivalents of:$wanted" >&2
    exit 1
fi

missing=""
for package in $wanted; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "install-deps.sh: installing$missing"
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "install-deps.sh: as root, run: apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    as_root=sudo
fi
export DEBIAN_FRONTEND=noninteractive
# Lists may be absent or old on a fresh machine; a second try follows an update.
install() {
    # shellcheck disable=SC2086 # words are package names
    $as_root apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 $missing >/dev/null
}
if ! install 2>/dev/null; then
    $as_root apt-get update -qq -o DPkg::Lock::Timeout=300
    install
fi
echo "install-deps.sh: done"
