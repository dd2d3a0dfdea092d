# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
# A round takes 4 s on an idle machine, and more than twice that on a busy one.
time_limit=900
prepare() {
    random_file disk.img 1048576
    start_vusbd --emulate "disk=$work/disk.img" && vm vm1 --device emu-disk
}
step_image_sum() { sha256 <disk.img; }
