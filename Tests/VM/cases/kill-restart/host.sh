# SPDX-License-Identifier: Apache-2.0
prepare() {
    random_file disk.img 2097152
    qemu_arguments=(
        -blockdev driver=file,node-name=disk,filename=disk.img
        -device usb-storage,bus=xhci.0,port=1,drive=disk,serial=STICK1
        -device usb-kbd,bus=xhci.0,port=2,serial=KBD1
    )
}
step_image_sum() { sha256 <disk.img; }
