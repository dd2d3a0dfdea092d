# SPDX-License-Identifier: Apache-2.0
kernels=(6.1 6.1-rt 6.12 6.12-rt)
daemon=host
memory=512

prepare() {
    random_file payload 1048576
    fat_image emu-disk 16 payload
    fat_image emu-fast 16 payload
    start_vusbd --emulate "disk=$work/emu-disk" --emulate "disk=$work/emu-fast,name=fast,speed=super" --emulate serial \
        --emulate keyboard && vm vm1
}
