# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=208
# What it keeps of its own knowledge of memory, and of locks, doesn't leave enough to unpack an initramfs.
[[ ${kernel:-} != *-debug ]] || memory=352
prepare() {
    truncate -s 512M disk.img
    mke2fs -q -t ext4 -E lazy_itable_init=0 -L VUSB disk.img
    start_vusbd --emulate "disk=$work/disk.img" && vm vm1 --device emu-disk
}
