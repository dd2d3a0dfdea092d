# SPDX-License-Identifier: Apache-2.0
# two.sh: a second virtual machine, whose USB devices come from the first one. Read by host halves that need it.
#
# The first has vusbd and the devices. Its serial ports are the wires between the two: `second.qmp` leads to the second
# one's monitor, `second.1`, `second.2` to the sockets that its QEMU connects to when vusbd says so, and `second.other`
# to a usb-redir device that it has from the beginning, for another program than vusbd.

# second_vm PORTS: starts it, with the same case and vusb.role=second, and wires it to the first one. Its console is in
# second.log. vusbd's socket in the first must be $work/vusb.sock there, too: QEMU connects to what vusbd names.
second_vm() {
    local port
    mkdir -p "$work/redirect"
    for port in $(seq "$1"); do wire "second.$port" "socket,path=$work/redirect/second-1-$port,server=on,wait=off"; done
    wire second.other "socket,path=$work/other,server=on,wait=off"
    : >"$work/second.log"
    background qemu-system-x86_64 -machine q35,accel=tcg,i8042=off -cpu "${VUSB_CPU:-max}" -smp 1 -m 512 -nodefaults \
        -no-user-config -display none -no-reboot -kernel "$image/$kernel/vmlinuz" \
        -initrd "$image/$kernel/initrd-guest.img" -append "console=ttyS0 loglevel=4 panic=-1 preempt=full rdinit=/init \
vusb.case=$name vusb.limit=$time_limit vusb.factor=$time_factor vusb.role=second" \
        -chardev "file,id=console,path=$work/second.log,append=on" -serial chardev:console \
        -qmp "unix:$work/second.qmp,server=on,wait=off" -device virtio-serial-pci -chardev null,id=sync \
        -device virtserialport,chardev=sync,name=vusb.sync -device qemu-xhci,id=xhci,p2=8,p3=8 \
        -chardev "socket,id=other,path=$work/other,server=off,reconnect=1" \
        -device usb-redir,chardev=other,bus=xhci.0,port=8,streams=off >>"$work/second-qemu.log" 2>&1
    eventually 20 test -S "$work/second.qmp" || return
    wire second.qmp "socket,path=$work/second.qmp,server=off"
    kernel_arguments+=" vusb.work=$work"
}

# wire NAME CHARDEV: a serial port of the first one.
wire() {
    local id=wire${#qemu_arguments[@]}
    qemu_arguments+=(-chardev "${2/,/,id=$id,}" -device "virtserialport,chardev=$id,name=$1")
}

# said SECONDS REGEXP: waits until the second one has printed such a line, and prints the last one.
step_said() {
    local seconds=$1
    shift
    eventually "$seconds" grep -qaE "$*" "$work/second.log" && grep -aE "$*" "$work/second.log" | tail -n 1 | tr -d '\r'
}

# second_machine: the same case in a second machine, where vusbd is on the host: its guest vm2, of which it has the monitor
# alone.
second_machine() {
    ctl guest add vm2 --connector qemu --qmp "$work/qmp-vm2" || return
    : >"$work/second.log"
    background qemu-system-x86_64 -machine q35,accel=tcg,i8042=off -cpu "${VUSB_CPU:-max}" -smp 1 -m 512 -nodefaults \
        -no-user-config -display none -no-reboot -kernel "$image/$kernel/vmlinuz" \
        -initrd "$image/$kernel/initrd-guest.img" -append "console=ttyS0 loglevel=4 panic=-1 no_timer_check preempt=full \
rdinit=/init vusb.case=$name vusb.limit=$time_limit vusb.factor=$time_factor vusb.role=second" \
        -chardev "file,id=console,path=$work/second.log,append=on" -serial chardev:console \
        -qmp "unix:$work/qmp-vm2,server=on,wait=off" -device virtio-serial-pci -chardev null,id=sync \
        -device virtserialport,chardev=sync,name=vusb.sync -device qemu-xhci,id=xhci >>"$work/second-qemu.log" 2>&1
    second_pid=${helpers[-1]}
    eventually 20 test -S "$work/qmp-vm2"
}

# written DEVICE BYTES: whether its guest has sent so many.
has_written() {
    ctl guests --json | jq -e --arg device "$1" --argjson bytes "$2" \
        '.[].attachments[] | select(.device == $device) | .bytesOut >= $bytes'
}
step_written() { eventually 30 has_written "$1" "$2"; }
