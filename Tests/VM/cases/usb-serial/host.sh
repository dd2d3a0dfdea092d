# SPDX-License-Identifier: Apache-2.0
prepare() {
    mkfifo serial.in serial.out
    exec 7<>serial.out 9<>serial.in
    qemu_arguments=(
        -chardev "pipe,id=line,path=$work/serial"
        -device usb-serial,bus=xhci.0,chardev=line,serial=SERIAL1
    )
}

# Everything after the step's name goes over the line, as one.
step_send() { printf '%s\n' "$*" >&9; }
step_receive() { IFS= read -r -t 20 line <&7 && echo "$line"; }
