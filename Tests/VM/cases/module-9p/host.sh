# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
share=9p
prepare() {
    random_file payload 1048576
    fat_image disk.img 16 payload
    start_vusbd --emulate "disk=$work/disk.img" --emulate serial --emulate zero &&
        vm vm1 --device emu-disk --device emu-serial --device emu-zero
}
step_image_sum() { sha256 <disk.img; }
