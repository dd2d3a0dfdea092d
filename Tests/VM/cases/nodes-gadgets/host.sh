# SPDX-License-Identifier: Apache-2.0
# A minute, where the machine has nothing else to do.
time_limit=600
prepare() {
    random_file disk.img 8388608
    qemu_arguments=(
        -blockdev driver=file,node-name=disk,filename=disk.img
        -device usb-uas,id=uas,bus=xhci.0 -device scsi-hd,bus=uas.0,drive=disk
    )
}
step_image_sum() { sha256 <disk.img; }
