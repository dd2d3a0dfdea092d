# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
prepare() {
    random_file disk.img 8388608
    qemu_arguments+=(-device qemu-xhci,id=xhci,p2=6,p3=6)
    start_vusbd --emulate "disk=$work/disk.img" --emulate keyboard --emulate serial --emulate zero &&
        plain_vm vm1 --device emu-disk --device emu-keyboard --device emu-zero
}
step_image_sum() { sha256 <disk.img; }
# Keys are pressed meanwhile. 8 s is longer than any time-out that vusbd might have on a transfer.
step_pause() {
    qmp stop && ctl type emu-keyboard vusb || return
    sleep "$1"
    qmp cont
}
step_refused_while_paused() {
    local status=0
    qmp stop && sleep 1
    ctl detach emu-disk --deadline 0s >refused 2>&1 || status=$?
    qmp cont
    ((status == 4)) && grep -q "was paused while" refused || { echo "$status: $(tail -n 1 refused)" >&2; return 1; }
}
# While it stands still, a device comes and another goes.
step_exchange() {
    qmp stop && ctl attach emu-serial vm1 && ctl detach emu-zero
    local status=$?
    qmp cont && return $status
}
