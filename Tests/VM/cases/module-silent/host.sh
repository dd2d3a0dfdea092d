# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
prepare() {
    random_file disk.img 33554432
    start_vusbd --emulate "disk=$work/disk.img" --emulate zero && vm vm1 --device emu-disk --device emu-zero
}
step_image_sum() { sha256 <disk.img; }
# vusbd holds still: it has the channel open and says nothing. Its control interface is silent as well.
step_freeze() { kill -STOP "$vusbd_pid"; }
step_thaw() { kill -CONT "$vusbd_pid"; }
