# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512

prepare() {
    random_file disk.img 8388608
    start_vusbd --emulate "disk=$work/disk.img" --emulate serial && vm vm1 --device emu-disk --device emu-serial
}
step_image_sum() { sha256 <disk.img; }
step_kill() { kill_vusbd; }
step_stop() { stop_vusbd; }
step_start() { start_vusbd; }
