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

step_payload_sum() { sha256 <payload; }
step_image_sum() { sha256 <"$1"; }
# What the guest's file system has in a file; from a copy, since the emulated disk locks its image.
step_file_sum() {
    cp "$1" copy.img
    mcopy -n -i copy.img "::$2" copied && sha256 <copied
}
step_mode() { ctl guests --json | jq -r --arg name "$1" '.[] | select(.name == $name) | .loadedMode'; }
step_leftovers() { qmp query-chardev | grep -o '"vusb-[^"]*"'; return 0; }
