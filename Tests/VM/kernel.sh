#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# kernel.sh: fetches a kernel of Debian 12 with the headers that modules are built against; nothing is installed.
#
#   kernel.sh [--cache DIR] [--list | KERNEL]
#
# KERNEL is 6.1, 6.1-rt, 6.12 or 6.12-rt; or 6.1-debug, which debug-kernel.sh builds, and which --list doesn't name.
# Prints the folder that it lies in: boot/vmlinuz-RELEASE, lib/modules/RELEASE, `build`, which is what KDIR is to a
# module's Makefile, and `release`, which says RELEASE. The packages linux-headers-6.12… can't be had without their
# kernel, which then makes its initramfs: unpacked here, all four are alike and the machine stays as it is.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${VUSB_CACHE:-$root/out/vm/cache}
kernel=

usage() { sed -n '3,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
die() { echo "kernel.sh: $*" >&2; exit 1; }

# The metapackage whose dependency is the newest build of a kernel.
metapackage() {
    case $1 in
        6.1) echo linux-image-amd64 ;;
        6.1-rt) echo linux-image-rt-amd64 ;;
        6.12) echo linux-image-6.12-amd64 ;;
        6.12-rt) echo linux-image-6.12-rt-amd64 ;;
        *) die "no kernel $1; there are 6.1, 6.1-rt, 6.12, 6.12-rt and 6.1-debug" ;;
    esac
}

# depends PACKAGE PATTERN: the first of its dependencies whose name fits the pattern.
depends() { apt-cache depends "$1" | sed -n "s/^ *Depends: \($2\)\$/\1/p" | head -n 1; }

while (($#)); do
    case $1 in
        --cache) cache=$2; shift 2 ;;
        --list) printf '%s\n' 6.1 6.1-rt 6.12 6.12-rt; exit 0 ;;
        -h | --help) usage; exit 0 ;;
        -*) usage >&2; exit 2 ;;
        *) kernel=$1; shift ;;
    esac
done
[[ -n $kernel ]] || { usage >&2; exit 2; }
[[ $kernel != 6.1-debug ]] || exec "$root/Tests/VM/debug-kernel.sh" --cache "$cache"

meta=$(metapackage "$kernel")
image=$(depends "$meta" 'linux-image-[0-9]\S*')
[[ -n $image ]] || die "apt knows no $meta; run apt-get update"
headers=linux-headers-${image#linux-image-}
directory=$cache/$image

fetch() {
    local common kbuild file
    common=$(depends "$headers" 'linux-headers-\S*-common\S*')
    kbuild=$(depends "$headers" 'linux-kbuild-\S*')
    [[ -n $common && -n $kbuild ]] || die "apt knows no $headers; run apt-get update"
    rm -rf "$directory"
    mkdir -p "$directory"
    # apt fetches as its own user where it can; the folder may be closed to it.
    (cd "$directory" && apt-get -qq -o APT::Sandbox::User=root download "$image" "$headers" "$common" "$kbuild")
    for file in "$directory"/*.deb; do dpkg -x "$file" "$directory"; done
    rm -rf "$directory"/*.deb "$directory/usr/share" "$directory/usr/lib/debug"
    # The headers' Makefile includes the common one by its place in /usr; the links between the packages are relative.
    sed -i "s|/usr/src/|$directory/usr/src/|" "$directory/usr/src/$headers/Makefile"
    ln -s "usr/src/$headers" "$directory/build"
    basename "$directory"/lib/modules/* >"$directory/release"
    rm -f "$directory/lib/modules/$(<"$directory/release")"/{build,source}
    depmod -b "$directory" "$(<"$directory/release")"
    touch "$directory/ready"
}

mkdir -p "$cache"
# Whoever comes second waits for the first, and finds it done.
exec 9>"$cache/lock"
flock 9
[[ -e $directory/ready ]] || fetch >&2
echo "$directory"
