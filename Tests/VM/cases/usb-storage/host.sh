# SPDX-License-Identifier: Apache-2.0
prepare() {
    random_file payload 1048576
    fat_image disk.img 8 payload
    qemu_arguments=(
        -drive if=none,id=disk,format=raw,file=disk.img
        -device usb-storage,id=stick,bus=xhci.0,drive=disk,serial=STICK1
    )
}

step_image_sum() { sha256 <disk.img; }
step_payload_sum() { sha256 <payload; }

# What the guest wrote to the disk's last sectors is in the image.
verify() {
    tail -c 4096 disk.img | cmp - <(printf 'vusb%.0s' {1..1024}) || {
        echo "the sectors that the guest wrote aren't in the image"
        return 1
    }
}
