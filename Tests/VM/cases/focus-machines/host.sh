# SPDX-License-Identifier: Apache-2.0
. "$(dirname "${BASH_SOURCE[0]}")/../../host/two.sh"
daemon=host
memory=512
time_limit=600
prepare() {
    truncate -s 64M disk.img
    mkfs.vfat -n VUSB disk.img
    cat >vusb.yaml <<'END'
focus:
  - name: desk
    devices: [emu-keyboard, emu-disk]
    guests: [vm1, vm2]
END
    qemu_arguments+=(-device qemu-xhci,id=xhci)
    start_vusbd --config "$work/vusb.yaml" --emulate "disk=$work/disk.img" --emulate keyboard && plain_vm vm1 &&
        second_machine
}

# The times of the last two moves, from vusbd's own events.
step_took() { grep -a -o 'switched.*in [0-9]* ms' vusbd.log | grep -o '[0-9]* ms' | tail -n 4 | tr '\n' ' '; }
