# SPDX-License-Identifier: Apache-2.0
kernels=(6.1 6.1-rt 6.12 6.12-rt)
daemon=host
memory=512

prepare() {
    random_file payload 1048576
    fat_image disk.img 16 payload
    start_vusbd --emulate "disk=$work/disk.img" --emulate serial --emulate keyboard && vm vm1
}

step_payload_sum() { sha256 <payload; }
step_image_sum() { sha256 <disk.img; }
# What the guest's file system has in a file; from a copy, since the emulated disk locks its image.
step_file_sum() {
    cp disk.img copy.img
    mcopy -n -i copy.img "::$1" copied && sha256 <copied
}
