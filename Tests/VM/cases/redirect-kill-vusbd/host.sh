# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
prepare() {
    random_file disk.img 8388608
    qemu_arguments+=(-device qemu-xhci,id=xhci,p2=6,p3=6)
    start_vusbd --emulate "disk=$work/disk.img" --emulate serial && plain_vm vm1 --device emu-disk --device emu-serial
}
step_image_sum() { sha256 <disk.img; }
step_kill() { kill_vusbd; }
step_stop() { stop_vusbd; }
step_start() { start_vusbd; }
# The chardevs and devices of vusbd's that QEMU has.
step_plugged() {
    { qmp query-chardev; qmp qom-list path=/machine/peripheral; } | { grep -o '"vusb-[^"]*"' || true; } | wc -l
}
