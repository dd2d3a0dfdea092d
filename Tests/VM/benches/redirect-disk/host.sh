# SPDX-License-Identifier: Apache-2.0
# The same bytes twice: as a disk that vusbd emulates and redirects, and as QEMU's own usb-storage, at one controller.
daemon=host
memory=1024
time_limit=1800
prepare() {
    . "$VUSB_BENCH_CONF"
    head -c "$((megabytes << 20))" /dev/zero >redirect.img
    cp redirect.img qemu.img
    qemu_arguments+=(
        -device qemu-xhci,id=xhci,p2=8,p3=8 -drive "if=none,id=own,file=$work/qemu.img,format=raw,cache=writeback"
        -device usb-storage,bus=xhci.0,port=8,drive=own,serial=OWN
    )
    start_vusbd --emulate "disk=$work/redirect.img,speed=super,serial=REDIRECT" && plain_vm vm1 --device emu-disk
}
# Seconds of processor time that this machine has spent on both so far.
step_spent() { cat "/proc/$qemu_pid/stat" "/proc/$vusbd_pid/stat" | awk '{ sum += $14 + $15 } END { print sum / 100 }'; }
