# SPDX-License-Identifier: Apache-2.0
prepare() {
    truncate -s 8M disk.img
    # A drive that outlives its device, so that the same stick can be plugged in again.
    qemu_arguments=(
        -blockdev driver=file,node-name=disk,filename=disk.img
        -device usb-kbd,id=keyboard,bus=xhci.0,port=1,serial=KBD1
        -device usb-storage,id=stick,bus=xhci.0,port=2,drive=disk,serial=STICK1
    )
}

step_unplug() { unplug "$1"; }
step_plug_keyboard() { plug usb-kbd id=keyboard bus=xhci.0 'port="1"' serial=KBD1; }
step_plug_stick() { plug usb-storage id=stick bus=xhci.0 'port="2"' drive=disk serial=STICK1; }
step_type() { keys "$@"; }
