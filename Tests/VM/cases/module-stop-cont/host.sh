# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
prepare() {
    random_file disk.img 33554432
    start_vusbd --emulate "disk=$work/disk.img" --emulate keyboard && vm vm1 --device emu-disk --device emu-keyboard
}
step_image_sum() { sha256 <disk.img; }
# Longer than any time-out that the module or vusbd might have on a transfer.
step_pause() { qmp stop && sleep "$1" && qmp cont; }
