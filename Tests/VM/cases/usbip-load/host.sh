# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
time_limit=90

# Two guests are this one machine, of which one at a time is loaded: `tcp` attaches over QEMU's user network, `port` over a
# virtio serial port.
prepare() {
    random_file payload 1048576
    fat_image emu-disk 16 payload
    start_vusbd --emulate "disk=$work/emu-disk" --emulate serial --attach-helper "$root/kmod-shim/build/vusb-attach" &&
        port=$(free_port) &&
        ctl guest add tcp --connector qemu --qmp "$work/qmp-vusbd" --agent "$work/agent" --listen "tcp:$port" &&
        ctl guest add port --connector qemu --qmp "$work/qmp-vusbd" --agent "$work/agent" --listen "unix:$work/usbip" ||
        return
    qemu_arguments+=(
        -chardev "socket,id=monitor,path=$work/qmp-vusbd,server=on,wait=off" -mon chardev=monitor,mode=control
        -chardev "socket,id=agent,path=$work/agent,server=on,wait=off"
        -device virtserialport,chardev=agent,name=org.qemu.guest_agent.0
        -chardev "socket,id=usbip,path=$work/usbip,reconnect=1"
        -device virtserialport,chardev=usbip,name=org.vusb.usbip.0
        -netdev user,id=net -device virtio-net-pci,netdev=net,romfile=
    )
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# What the last load said, with that in it.
step_load_said() { ctl operations --json | jq -r '[.[] | select(.kind == "load")][-1].steps[].name' | grep -E "$1"; }
# Of a device: `free`, `imported`…
step_state_of() { ctl guests --json | jq -r --arg device "$1" '.[].attachments[] | select(.device == $device) | .state'; }
step_free() { eventually 10 is_free "$1"; }
is_free() { [[ $(step_state_of "$1") == free ]]; }
