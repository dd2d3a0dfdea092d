#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# debug-kernel.sh: builds the kernel 6.1-debug: Debian's source of 6.1 with debug.config, and so with lockdep, KASAN and
# more that finds mistakes, which no kernel of Debian has.
#
#   debug-kernel.sh [--cache DIR]
#
# It is kernel.sh that calls it, and it prints what that does: a folder, in which things lie as they do there. Built once
# for a version of linux-source-6.1, and again where debug.config is another one. That takes 10 minutes on two
# processors, 2 GiB of disk, and the packages make, gcc, flex, bison, bc, libelf-dev and xz-utils.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${VUSB_CACHE:-$here/../../out/vm/cache}
package=linux-source-6.1
# depmod lies there.
PATH=$PATH:/usr/sbin:/sbin

usage() { sed -n '4,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
die() { echo "debug-kernel.sh: $*" >&2; exit 1; }

while (($#)); do
    case $1 in
        --cache) cache=$2; shift 2 ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done

version=$(apt-cache show --no-all-versions "$package" 2>/dev/null | sed -n 's/^Version: //p')
[[ -n $version ]] || die "apt knows no $package; run apt-get update"
mkdir -p "$cache"
directory=$(cd "$cache" && pwd)/linux-$version-debug
source=$directory/build

# What building a kernel takes, by the packages' names.
check_tools() {
    local tool missing=()
    for tool in make gcc flex bison bc; do command -v "$tool" >/dev/null || missing+=("$tool"); done
    command -v xz >/dev/null || missing+=(xz-utils)
    echo '#include <libelf.h>' | gcc -E - >/dev/null 2>&1 || missing+=(libelf-dev)
    ((${#missing[@]} == 0)) || die "a kernel can't be built without these packages: apt-get install ${missing[*]}"
}

# What the kernel says of itself, with no part of ours in it, that keeps a case from passing: usbtest sets a timer up
# before a loop and gives it up in the loop, each time.
mend() {
    sed -i -e '/^\t\tdestroy_timer_on_stack(&timeout.timer);$/d' \
        -e 's|^\t/\* FIXME for unlink or fault handling tests|\tdestroy_timer_on_stack(\&timeout.timer);\n\n&|' \
        "$source/drivers/usb/misc/usbtest.c"
}

unpack() {
    rm -rf "$directory"
    mkdir -p "$directory"
    # apt fetches as its own user where it can; the folder may be closed to it.
    (cd "$directory" && apt-get -qq -o APT::Sandbox::User=root download "$package=$version")
    dpkg --fsys-tarfile "$directory"/*.deb | tar -xO "./usr/src/$package.tar.xz" \
        | tar -xJ --strip-components=1 --one-top-level="$source"
    rm "$directory"/*.deb
    mend
    touch "$directory/unpacked"
}

configure() {
    local lost
    make -s -C "$source" KCONFIG_ALLCONFIG="$here/debug.config" allnoconfig
    # An option without what it depends on is dropped without a word.
    lost=$(grep '^CONFIG_' "$here/debug.config" | grep -vxFf "$source/.config" || true)
    [[ -z $lost ]] || die "this kernel doesn't take from debug.config:"$'\n'"$lost"
}

build() {
    local release
    make -s -C "$source" -j"$(nproc)" bzImage modules
    release=$(<"$source/include/config/kernel.release")
    rm -rf "$directory"/{boot,lib}
    install -D -m 644 "$source/arch/x86/boot/bzImage" "$directory/boot/vmlinuz-$release"
    make -s -C "$source" INSTALL_MOD_PATH="$directory" modules_install
    rm -f "$directory/lib/modules/$release"/{build,source}
    echo "$release" >"$directory/release"
    cp "$here/debug.config" "$directory/ready"
}

# Not kernel.sh's lock: who fetches another kernel needn't wait for this.
exec 9>"$cache/lock-debug"
flock 9
if ! cmp -s "$here/debug.config" "$directory/ready"; then
    check_tools
    {
        [[ -e $directory/unpacked ]] || unpack
        rm -f "$directory/ready"
        configure
        build
    } >&2
fi
echo "$directory"
