#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# image.sh: builds the guests that all VM cases share: kernels of Debian 12, and an initramfs for each with vusb in it.
#
#   image.sh [--cache DIR] [--out DIR] [--vusbd FILE] [--vusbctl FILE] [KERNEL…]
#
# KERNEL is one of kernel.sh's, by default 6.1. What is made in DIR:
#   KERNEL/vmlinuz KERNEL/release KERNEL/initrd.img   a guest that runs vusbd itself
#   KERNEL/initrd-guest.img                           one that gets its devices from a vusbd elsewhere: smaller
#   modules/RELEASE/*.ko                              our modules for these kernels, as vusbd --modules takes them
# The initramfs is not compressed: under software emulation, unpacking costs more time than loading.
set -euo pipefail
shopt -s nullglob

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${VUSB_CACHE:-$root/out/vm/cache}
out=$root/out/vm/image
release=$root/.build-release/release
vusbd=${VUSBD:-$release/vusbd}
vusbctl=${VUSBCTL:-$release/vusbctl}
# The benchmark has cases of its own, and what it is to measure in a file.
cases=${VUSB_CASES:-$here/cases}

# What the cases load. Dependencies come by themselves; what a kernel has built in needs no file.
modules=(
    virtio_pci virtio_console virtio_net vsock vsock_loopback virtiofs 9p 9pnet_virtio virtio_blk
    fuse cuse loop vfat ext4 crc32c_generic nls_cp437 nls_ascii nls_iso8859-1 nls_utf8 sd_mod
    xhci_pci ehci_pci usb_storage uas usbhid hid_generic evdev usbserial ftdi_sio cdc_acm
    snd_usb_audio usbtest vhci_hcd usbip_host veth tcp_diag
    dummy_hcd libcomposite usb_f_ss_lb usb_f_mass_storage usb_f_acm usb_f_hid usb_f_uac1 usb_f_uac2 usb_f_fs gadgetfs
)
# Programs of this machine that the guests use; stat for times with fractions.
programs=(lsusb jq stat qemu-ga usbip)
# Those of a guest that runs vusbd itself; the others have little memory.
vusb_programs=(curl fusermount3 mke2fs usbipd usbredirect socat usbhid-dump ip ss tcpdump)
# More of them, to look into something by hand: strace, perf…
read -ra more_programs <<<"${VUSB_IMAGE_PROGRAMS:-}"
programs+=("${more_programs[@]}")
# Some of them lie there.
PATH=$PATH:/usr/sbin:/sbin

usage() { sed -n '3,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
die() { echo "image.sh: $*" >&2; exit 1; }

kernels=()
while (($#)); do
    case $1 in
        --cache) cache=$2; shift 2 ;;
        --out) out=$2; shift 2 ;;
        --vusbd) vusbd=$2; shift 2 ;;
        --vusbctl) vusbctl=$2; shift 2 ;;
        -h | --help) usage; exit 0 ;;
        -*) usage >&2; exit 2 ;;
        *) kernels+=("$1"); shift ;;
    esac
done
((${#kernels[@]})) || kernels=(6.1)

archive() { (cd "$1" && find . -print0 | cpio --null --quiet -o -H newc); }

# ---- for one kernel: $kernel_tree has it, $tree is what becomes of it

# Our own modules; with the self-test, which only the guest gets. It has the others, too, for a vusbd that runs in it.
build_modules() {
    local objects=$stage/kmod
    rm -rf "$objects"
    make -s -C "$root/kmod-shim" "KDIR=$kernel_tree/build" "OUT=$objects" TEST=1 >"$stage/kmod.log" 2>&1 || {
        cat "$stage/kmod.log" >&2
        die "kmod-shim doesn't build for $kernel_release"
    }
    # As DKMS and packages have them: the symbols for debuggers are nine tenths of a module.
    strip --strip-debug "$objects"/*.ko
    mkdir -p "$out/modules/$kernel_release"
    cp "$objects"/vusb_{channel,hcd}.ko "$out/modules/$kernel_release/"
    install -D -m 644 -t "$tree/vm/modules/$kernel_release" "$objects"/vusb_{channel,hcd}.ko
    install -D -m 644 -t "$tree/vm/test/$kernel_release" "$objects"/vusb_codec_test.ko
}

# The kernel's modules that the cases load. Debian's newer kernels have them compressed; that's undone here.
copy_modules() {
    local source=$kernel_tree/lib/modules/$kernel_release target=$tree/lib/modules/$kernel_release module file
    mkdir -p "$target"
    cp "$source"/modules.{builtin,builtin.modinfo,order} "$target/"
    for module in "${modules[@]}"; do
        modprobe -d "$kernel_tree" -S "$kernel_release" --show-depends "$module" || die "no module $module"
    done | sed -n 's/^insmod \(\S*\).*/\1/p' | sort -u | while read -r file; do
        install -D -m 644 "$file" "$target/${file#"$source"/}"
    done
    find "$target" -name '*.ko.xz' -exec xz --decompress {} +
    sed -i 's/\.ko\.xz$/.ko/' "$target/modules.order"
    depmod -b "$tree" "$kernel_release"
}

make_kernel() {
    local tree=$stage/modules kernel_tree kernel_release target=$out/$1
    kernel_tree=$("$here/kernel.sh" --cache "$cache" "$1")
    kernel_release=$(<"$kernel_tree/release")
    copy_modules
    build_modules
    archive "$tree" >"$stage/modules.cpio"
    rm -rf "$tree"
    mkdir -p "$target"
    cp "$kernel_tree/boot/vmlinuz-$kernel_release" "$target/vmlinuz"
    echo "$kernel_release" >"$target/release"
    # The kernel unpacks archives that follow one another.
    cat "$stage"/{base,modules}.cpio >"$target/initrd-guest.img"
    cat "$stage"/{base,modules,vusb}.cpio >"$target/initrd.img"
    echo "guest image: Linux $kernel_release, $(du -m "$target/initrd.img" | cut -f1) MiB," \
        "without vusb $(du -m "$target/initrd-guest.img" | cut -f1) MiB"
}

# ---- for all kernels

# A program with the shared libraries that it needs, to $tree.
copy_program() {
    local file=$1 target=$2 library
    install -D -m 755 "$file" "$tree/$target"
    # A static program, or a script, has none.
    { ldd "$file" 2>/dev/null || true; } | sed -n 's/.*=> \(\/\S*\).*/\1/p; s/^\s*\(\/\S*\) (0x.*/\1/p' | while read -r library; do
        # What the other archive has isn't wanted twice.
        [[ -e $tree/$library || -e $stage/base/$library ]] || install -D -m 755 "$library" "$tree/$library"
    done
}

copy_programs() {
    local name source
    install -D -m 755 /bin/busybox "$tree/bin/busybox"
    for name in $(/bin/busybox --list); do
        [[ $name == busybox ]] || ln -s busybox "$tree/bin/$name"
    done
    # kmod's, which knows the binary indexes and module aliases whole.
    copy_program "$(readlink -f "$(command -v modprobe)")" bin/kmod
    for name in modprobe insmod rmmod lsmod modinfo; do ln -sf kmod "$tree/bin/$name"; done
    for name in "${programs[@]}"; do copy_program "$(command -v "$name")" "bin/$name"; done
    make_programs "$here"/programs/*.c
}

# Clients of our own: without libraries, and the symbols for debuggers.
make_programs() {
    local source
    for source in "$@"; do
        cc -std=gnu11 -O2 -s -Wall -Wextra -Werror -static -I "$root/kmod-shim/uapi" -pthread \
            -o "$tree/bin/$(basename "${source%.c}")" "$source"
    done
}

# Without a library, not even the compiler's own: of these a 64-bit Debian has none for 32 bits. The kernel's headers
# are the same for both.
make_32_bit_programs() {
    local source
    for source in "$here"/programs/i386/*.c; do
        gcc -m32 -std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -fno-pic -no-pie \
            -nostdlib -static -isystem "/usr/include/$(gcc -print-multiarch)" \
            -o "$tree/bin/$(basename "${source%.c}")" "$source"
    done
}

# What the README tells people to type, for cases that do so: the block below each `<!-- recipe NAME -->`.
copy_recipes() {
    mkdir -p "$tree/vm/recipes"
    awk -v to="$tree/vm/recipes/" '
        /^<!-- recipe / { name = $3; next }
        /^```/ { inside = !inside && name != ""; if (!inside) name = ""; next }
        inside { print > (to name) }' "$root/README.md"
}

copy_files() {
    mkdir -p "$tree"/{dev,proc,sys,run,tmp,etc,root,mnt,var/lib/vusb,vusb,vm/cases}
    install -m 755 "$here/guest/init" "$tree/init"
    install -m 644 "$here"/guest/*.sh "$here"/programs/*.py "$tree/vm/"
    copy_recipes
    local case
    for case in "$cases"/*/guest.sh; do
        install -D -m 644 "$case" "$tree/vm/cases/$(basename "$(dirname "$case")").sh"
    done
    [[ -z ${VUSB_BENCH_CONF:-} ]] || install -m 644 "$VUSB_BENCH_CONF" "$tree/vm/bench.conf"
    printf 'root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/root:/bin/sh\nbob:x:1001:1001::/root:/bin/sh\n' \
        >"$tree/etc/passwd"
    printf 'root:x:0:\nalice:x:1000:\nbob:x:1001:\nvusb:x:900:alice\n' >"$tree/etc/group"
    echo 'user_allow_other' >"$tree/etc/fuse.conf"
    # Each device node whose module isn't loaded would otherwise be asked for with no modules.devname.
    ln -sf /proc/mounts "$tree/etc/mtab"
}

make_base() {
    local tree=$stage/base
    mkdir -p "$tree"/{bin,lib64,usr}
    ln -s bin "$tree/sbin"
    ln -s ../bin "$tree/usr/bin"
    ln -s ../bin "$tree/usr/sbin"
    copy_programs
    copy_files
    archive "$tree" >"$stage/base.cpio"
}

# Programs on libusb, which finds devices by the libudev that it's linked with: they can't be static.
make_libusb_programs() {
    local source name
    for source in "$here"/programs/libusb/*.c; do
        name=$(basename "${source%.c}")
        # What pkg-config prints are several words.
        # shellcheck disable=SC2046
        cc -std=gnu11 -O2 -Wall -Wextra -Werror -o "$stage/$name" "$source" $(pkg-config --cflags --libs libusb-1.0)
        copy_program "$stage/$name" "bin/$name"
    done
}

# For programs that are told of it by LD_LIBRARY_PATH.
copy_other_libusb() {
    local library
    library=$("$here/libusb.sh" --cache "$cache")
    install -D -m 755 "$library" "$tree/opt/libusb-without-udev/$(basename "$library")"
}

make_vusb() {
    local tree=$stage/vusb name
    for name in vusbd vusbctl; do
        [[ -x ${!name} ]] || die "${!name} not found; run make release"
        copy_program "${!name}" "bin/$name"
        strip "$tree/bin/$name" 2>/dev/null || true # A stand-in for it may be a script.
    done
    for name in "${vusb_programs[@]}"; do copy_program "$(command -v "$name")" "bin/$name"; done
    # The others have it from vusbd.
    make -s -C "$root/kmod-shim" attach
    copy_program "$root/kmod-shim/build/vusb-attach" bin/vusb-attach
    make_programs "$here"/programs/vusbd/*.c
    make_32_bit_programs
    make_libusb_programs
    copy_other_libusb
    archive "$tree" >"$stage/vusb.cpio"
}

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$cache" "$out"
make_base
make_vusb
for kernel in "${kernels[@]}"; do make_kernel "$kernel"; done
