# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
prepare() {
    random_file payload 1000
    fat_image disk.img 16 payload
    start_vusbd --emulate "disk=$work/disk.img" --emulate serial && vm vm1 --device emu-disk --device emu-serial
}
