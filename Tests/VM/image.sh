#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# image.sh: builds the guest that all VM cases share: Debian's stock kernel and an initramfs with vusbd in it.
#
#   image.sh [--cache DIR] [--out DIR] [--vusbd FILE] [--vusbctl FILE]
#
# The kernel is downloaded once into the cache. The initramfs is not compressed: under software emulation,
# unpacking costs more time than loading.
set -euo pipefail
shopt -s nullglob

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${VUSB_CACHE:-$root/out/vm/cache}
out=$root/out/vm/image
release=$root/.build-release/release
vusbd=${VUSBD:-$release/vusbd}
vusbctl=${VUSBCTL:-$release/vusbctl}

# What the cases load. Dependencies come by themselves.
modules=(
    virtio_pci virtio_console
    fuse loop vfat nls_cp437 nls_ascii nls_iso8859-1 nls_utf8 sd_mod
    xhci_pci ehci_pci usb_storage uas usbhid hid_generic usbserial ftdi_sio cdc_acm
    snd_usb_audio usbtest
    dummy_hcd libcomposite usb_f_ss_lb usb_f_mass_storage usb_f_acm usb_f_hid usb_f_uac1 usb_f_uac2 gadgetfs
)
# Programs of this machine that the guest uses; stat for times with fractions.
programs=(curl lsusb jq fusermount3 stat)

usage() { sed -n '3,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
die() { echo "image.sh: $*" >&2; exit 1; }

while (($#)); do
    case $1 in
        --cache) cache=$2; shift 2 ;;
        --out) out=$2; shift 2 ;;
        --vusbd) vusbd=$2; shift 2 ;;
        --vusbctl) vusbctl=$2; shift 2 ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done

# The package that linux-image-amd64 depends on, unpacked to $cache/NAME.
fetch_kernel() {
    local package directory
    package=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9]\S*\)$/\1/p' | head -1)
    [[ -n $package ]] || die "apt knows no linux-image-amd64; run apt-get update"
    directory=$cache/$package
    if [[ ! -e $directory/complete ]]; then
        rm -rf "$directory"
        mkdir -p "$directory"
        # apt fetches as its own user where it can; the folder may be closed to it.
        (cd "$directory" && apt-get -qq -o APT::Sandbox::User=root download "$package")
        dpkg -x "$directory"/*.deb "$directory"
        rm -f "$directory"/*.deb
        touch "$directory/complete"
    fi
    kernel_tree=$directory
    kernel_release=$(basename "$directory"/lib/modules/*)
}

copy_modules() {
    local source=$kernel_tree/lib/modules/$kernel_release target=$stage/lib/modules/$kernel_release module file
    # Only a tree that depmod has been over can be asked for dependencies.
    [[ -e $source/modules.dep ]] || depmod -b "$kernel_tree" "$kernel_release"
    mkdir -p "$target"
    cp "$source"/modules.{builtin,builtin.modinfo,order} "$target/"
    for module in "${modules[@]}"; do
        modprobe -d "$kernel_tree" -S "$kernel_release" --show-depends "$module" || die "no module $module"
    done | sed -n 's/^insmod \(\S*\).*/\1/p' | sort -u | while read -r file; do
        install -D -m 644 "$file" "$target/${file#"$source"/}"
    done
    depmod -b "$stage" "$kernel_release"
}

# A program with the shared libraries that it needs.
copy_program() {
    local file=$1 target=$2 library
    install -D -m 755 "$file" "$stage/$target"
    # A static program, or a script, has none.
    { ldd "$file" 2>/dev/null || true; } | sed -n 's/.*=> \(\/\S*\).*/\1/p; s/^\s*\(\/\S*\) (0x.*/\1/p' | while read -r library; do
        [[ -e $stage/$library ]] || install -D -m 755 "$library" "$stage/$library"
    done
}

copy_programs() {
    local name source
    install -D -m 755 /bin/busybox "$stage/bin/busybox"
    for name in $(/bin/busybox --list); do
        [[ $name == busybox ]] || ln -s busybox "$stage/bin/$name"
    done
    # kmod's, which knows the binary indexes and module aliases whole.
    copy_program "$(readlink -f "$(command -v modprobe)")" bin/kmod
    for name in modprobe insmod rmmod lsmod modinfo; do ln -sf kmod "$stage/bin/$name"; done
    for name in "${programs[@]}"; do copy_program "$(command -v "$name")" "bin/$name"; done
    for source in "$here"/programs/*.c; do
        cc -std=gnu11 -O2 -Wall -Wextra -Werror -static -o "$stage/bin/$(basename "${source%.c}")" "$source"
    done
    for name in vusbd vusbctl; do
        [[ -x ${!name} ]] || die "${!name} not found; run make release"
        copy_program "${!name}" "bin/$name"
        strip "$stage/bin/$name" 2>/dev/null || true # A stand-in for it may be a script.
    done
}

copy_files() {
    mkdir -p "$stage"/{dev,proc,sys,run,tmp,etc,root,var/lib/vusb,vusb,vm/cases}
    install -m 755 "$here/guest/init" "$stage/init"
    install -m 644 "$here"/guest/*.sh "$stage/vm/"
    local case
    for case in "$here"/cases/*/guest.sh; do
        install -D -m 644 "$case" "$stage/vm/cases/$(basename "$(dirname "$case")").sh"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/root:/bin/sh\nbob:x:1001:1001::/root:/bin/sh\n' \
        >"$stage/etc/passwd"
    printf 'root:x:0:\nalice:x:1000:\nbob:x:1001:\nvusb:x:900:alice\n' >"$stage/etc/group"
    echo 'user_allow_other' >"$stage/etc/fuse.conf"
    # Each device node whose module isn't loaded would otherwise be asked for with no modules.devname.
    ln -sf /proc/mounts "$stage/etc/mtab"
}

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"
mkdir -p "$cache" "$out" "$stage/bin" "$stage/lib64"
ln -s bin "$stage/sbin"
mkdir -p "$stage/usr"
ln -s ../bin "$stage/usr/bin"
ln -s ../bin "$stage/usr/sbin"

fetch_kernel
copy_modules
copy_programs
copy_files
(cd "$stage" && find . -print0 | cpio --null --quiet -o -H newc) >"$out/initrd.img.new"
mv "$out/initrd.img.new" "$out/initrd.img"
cp "$kernel_tree/boot/vmlinuz-$kernel_release" "$out/vmlinuz"
echo "guest image: Linux $kernel_release, $(du -m "$out/initrd.img" | cut -f1) MiB"
