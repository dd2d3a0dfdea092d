# SPDX-License-Identifier: Apache-2.0
kernels=(6.1 6.12)
daemon=host
memory=512
prepare() {
    random_file payload 1048576
    fat_image emu-disk 16 payload
    fat_image emu-fast 16 payload
    qemu_arguments+=(-device qemu-xhci,id=xhci,p2=6,p3=6)
    start_vusbd --emulate "disk=$work/emu-disk" --emulate "disk=$work/emu-fast,name=fast,speed=super" --emulate serial \
        --emulate keyboard && plain_vm vm1
}
step_mode() { ctl guests --json | jq -r --arg name "$1" '.[] | select(.name == $name) | .loadedMode'; }
step_leftovers() { qmp query-chardev | grep -o '"vusb-[^"]*"'; return 0; }
