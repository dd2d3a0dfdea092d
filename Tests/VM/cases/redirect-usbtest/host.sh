# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
# The xHCI controller is the first choice, and has no free port until the tablet has gone.
prepare() {
    qemu_arguments+=(
        -device usb-ehci,id=ehci
        -device qemu-xhci,id=xhci,p2=1,p3=1 -device usb-tablet,id=tablet,bus=xhci.0,port=1
    )
    start_vusbd --emulate zero && plain_vm vm1
}
step_unplug() { unplug "$1"; }
