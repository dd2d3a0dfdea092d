# SPDX-License-Identifier: Apache-2.0
prepare() {
    random_file payload 65536
    fat_image disk.img 8 payload
    qemu_arguments=(
        -blockdev driver=file,node-name=disk,filename=disk.img
        -device usb-storage,bus=xhci.0,drive=disk,serial=STICK1
        -device usb-kbd,bus=xhci.0,serial=KBD1
    )
}
step_payload_sum() { sha256 <payload; }
