#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# kmod.sh: builds the modules of kmod-shim for the kernels that the VM cases run on, and checks their source.
#
#   kmod.sh [KERNEL…]      releases, as in /lib/modules/KERNEL/build, instead; or KVER="KERNEL…" in the environment
#
# A build has all warnings on (W=1) and sparse over it (C=1) and fails on any. The self-test is built too; it runs in a
# VM case. checkpatch.pl must have nothing to say: it comes with Debian's linux-source-6.1, which is downloaded once
# into out/kmod/cache (VUSB_CACHE); VUSB_CHECKPATCH names another one. Modules stay in out/kmod/KERNEL.
#
# It needs the packages make, gcc, sparse, perl and xz-utils; Tests/VM/kernel.sh fetches kernels' headers.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source=$root/kmod-shim
out=$root/out/kmod
cache=${VUSB_CACHE:-$out/cache}
passed=0
failed=0

pass() { echo "ok   $*"; passed=$((passed + 1)); }
fail() { echo "FAIL $*"; failed=$((failed + 1)); }

case ${1:-} in
    -h | --help) sed -n '3,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
esac
kernels=("$@")
((${#kernels[@]})) || read -ra kernels <<<"${KVER:-}"
if ((!${#kernels[@]})); then
    while read -r kernel; do
        tree=$("$root/Tests/VM/kernel.sh" "$kernel") && kernels+=("$tree")
    done < <("$root/Tests/VM/kernel.sh" --list)
fi

# What a build says besides its steps. Without the kernel's vmlinux there is no BTF for modules, which isn't needed.
complaints() {
    grep -vE '^(make|  (CC|LD|CHECK|MODPOST|BTF|AR|SYMLINK|DESCEND|INSTALL|DEPMOD) )|^Skipping BTF|^warning: the compiler differs|^  (The kernel was built by|You are using):' "$1"
}

build_one() {
    local kernel=$1 kdir=/lib/modules/$1/build directory log
    # A folder is one of kernel.sh's.
    [[ $1 != /* ]] || { kernel=$(<"$1/release"); kdir=$1/build; }
    directory=$out/$kernel
    log=$directory.log
    rm -rf "$directory"
    if ! make -C "$source" KDIR="$kdir" OUT="$directory" TEST=1 W=1 C=1 >"$log" 2>&1; then
        fail "kmod/build for $kernel; the end of $log:"
        tail -n 20 "$log" | sed 's/^/     | /'
    elif complaints "$log" >"$log.complaints"; then
        fail "kmod/build for $kernel has warnings:"
        sed 's/^/     | /' "$log.complaints"
    else
        pass "kmod/build for $kernel: $(modinfo -F vermagic "$directory/vusb_hcd.ko")"
    fi
}

# Leaves the source as it was: only what is built into OUT is new.
source_is_clean() {
    local stray
    stray=$(find "$source" -path "$source/build" -prune -o \( -name '*.o' -o -name '*.ko' -o -name '*.mod*' -o -name '.*.cmd' \) -print)
    if [[ -z $stray ]]; then pass "kmod/source left as it was"; else fail "kmod/left behind: $stray"; fi
}

fetch_checkpatch() {
    local package=linux-source-6.1 work
    checkpatch=${VUSB_CHECKPATCH:-$cache/checkpatch/checkpatch.pl}
    [[ ! -e $checkpatch ]] || return 0
    work=$(mktemp -d) || return 1
    mkdir -p "$cache/checkpatch"
    # apt fetches as its own user where it can; the folder may be closed to it.
    (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$package" && dpkg -x "$package"_*.deb . \
        && tar xJf "usr/src/$package.tar.xz" --strip-components=2 -C "$cache/checkpatch" --wildcards \
            '*/scripts/checkpatch.pl' '*/scripts/spelling.txt' '*/scripts/const_structs.checkpatch')
    local status=$?
    rm -rf "$work"
    return $status
}

# Names of the USB specification's fields are as they are there. What user space includes has no BIT(), no ARRAY_SIZE()
# and no u8; in vusb_compat.h are the comparisons of versions that a module built for many kernels can't do without.
check_source() {
    local file ignore checked=()
    while read -r file; do
        ignore=CAMELCASE
        case $file in
            */vusb_abi.h) ignore+=,BIT_MACRO ;;
            */test/*.h) ignore+=,ARRAY_SIZE,PREFER_KERNEL_TYPES,MACRO_ARG_REUSE ;;
            */attach/*) ignore+=,PREFER_KERNEL_TYPES,EMBEDDED_FUNCTION_NAME ;;
            */vusb_compat.h) ignore+=,LINUX_VERSION_CODE,CONSTANT_COMPARISON ;;
        esac
        if ! (cd "$out" && perl "$checkpatch" --strict --no-tree --root=. --no-summary --terse --max-line-length=120 \
            --ignore "$ignore" -f "$file") >"$out/checkpatch.log" 2>&1 || [[ -s $out/checkpatch.log ]]; then
            fail "kmod/checkpatch:"
            sed 's/^/     | /' "$out/checkpatch.log"
        else
            checked+=("$file")
        fi
    done < <(find "$source" -path "$source/build" -prune -o -name '*.[ch]' -print | sort)
    ((${#checked[@]} == 0)) || pass "kmod/checkpatch: ${#checked[@]} files"
}

# checkpatch.pl looks for names in a kernel's include folder, and keeps them where it runs.
mkdir -p "$out/include"
((${#kernels[@]})) || fail "kmod/no kernel's headers could be fetched"
for kernel in "${kernels[@]}"; do build_one "$kernel"; done
source_is_clean
if fetch_checkpatch; then check_source; else fail "kmod/checkpatch.pl: linux-source-6.1 couldn't be fetched"; fi

echo "$passed passed, $failed failed"
((failed == 0))
