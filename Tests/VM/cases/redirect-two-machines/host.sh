# SPDX-License-Identifier: Apache-2.0
. "$(dirname "${BASH_SOURCE[0]}")/../../host/two.sh"
time_limit=480
prepare() {
    random_file disk.img 4194304
    qemu_arguments+=(
        -blockdev driver=file,node-name=disk,filename=disk.img
        -device usb-uas,id=uas,bus=xhci.0 -device scsi-hd,bus=uas.0,drive=disk
    )
    second_vm 3
}
step_image_sum() { sha256 <disk.img; }
