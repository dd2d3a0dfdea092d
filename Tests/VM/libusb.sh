#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# libusb.sh: builds Debian's own source of libusb without udev, as containers' images and static builds have it; nothing
# is installed.
#
#   libusb.sh [--cache DIR]
#
# Prints the library's file, a libusb-1.0.so.0 that Debian's programs take in place of theirs (LD_LIBRARY_PATH). Without
# udev it finds devices in /sys and /dev by itself, and hears of arrivals by the kernel's messages. Built once for a
# version of the package, which takes half a minute and the packages dpkg-dev, make, gcc and binutils.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${VUSB_CACHE:-$here/../../out/vm/cache}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

usage() { sed -n '4,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
die() { echo "libusb.sh: $*" >&2; exit 1; }

while (($#)); do
    case $1 in
        --cache) cache=$2; shift 2 ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done

version=$(apt-cache show --no-all-versions libusb-1.0-0 2>/dev/null | sed -n 's/^Version: //p')
[[ -n $version ]] || die "apt knows no libusb-1.0-0; run apt-get update"
mkdir -p "$cache"
directory=$(cd "$cache" && pwd)/libusb-${version#*:}-without-udev

# sources: where this machine has Debian's packages from, for sources. Machines seldom ask for those; the system's own
# lists stay as they are.
sources() {
    # The parts in parentheses are apt's.
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        sed -n "s|^Debian |deb-src [signed-by=$keyring] |p" | sort -u
}

# apt with lists of its own. It fetches as its own user where it can; the folder may be closed to it.
source_apt() {
    apt-get -qq -o APT::Sandbox::User=root -o "Dir::Etc::SourceList=$directory/sources.list" \
        -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$directory/lists" -o Dir::Cache::pkgcache= \
        -o Dir::Cache::srcpkgcache= "$@"
}

unpack() {
    rm -rf "$directory"
    mkdir -p "$directory"/lists/partial
    sources >"$directory/sources.list"
    [[ -s $directory/sources.list ]] || die "apt has no list of Debian's packages; run apt-get update"
    source_apt update
    (cd "$directory" && source_apt --download-only --only-source source "libusb-1.0=$version")
    dpkg-source --no-check -x "$directory"/*.dsc "$directory/source"
    rm -rf "$directory/lists"
}

build() {
    (cd "$directory/source" && ./configure --quiet --disable-udev --disable-static --prefix=/usr)
    make -s -C "$directory/source/libusb"
    install -D -m 644 "$directory/source/libusb/.libs/libusb-1.0.so.0" "$directory/lib/libusb-1.0.so.0"
    ! readelf --dynamic "$directory/lib/libusb-1.0.so.0" | grep -q libudev || die "this libusb has udev all the same"
}

# Whoever comes second waits for the first, and finds it done.
exec 9>"$cache/lock-libusb"
flock 9
if [[ ! -e $directory/ready ]]; then
    for tool in dpkg-source make gcc readelf; do
        command -v $tool >/dev/null || die "$tool isn't there: apt-get install dpkg-dev make gcc binutils"
    done
    { unpack; build; } >&2
    touch "$directory/ready"
fi
echo "$directory/lib/libusb-1.0.so.0"
