# SPDX-License-Identifier: Apache-2.0
# lib.sh: what the host half of a case may use. The current folder is the case's own, removed afterwards.

# qmp COMMAND [KEY=VALUE…]: runs a QMP command of this case's QEMU.
qmp() { python3 "$here/qmp.py" "$work/qmp" "$@"; }

# unplug ID: takes the device out; returns when QEMU has let go of it.
unplug() { qmp device_del "id=$1"; }

# plug DRIVER KEY=VALUE…
plug() { qmp device_add "driver=$1" "${@:2}"; }

# keys KEY…: presses and releases each key (QEMU's key names).
keys() { python3 "$here/qmp.py" "$work/qmp" --keys "$@"; }

# background COMMAND…: a helper that is killed when the case ends.
background() {
    "$@" 5>&- 6>&- &
    helpers+=($!)
}

# fat_image FILE MEBIBYTES CONTENT: a FAT file system with CONTENT as /payload.bin.
fat_image() {
    truncate -s "${2}M" "$1"
    mkfs.vfat -n VUSB "$1"
    mcopy -i "$1" "$3" ::payload.bin
}

# random_file FILE BYTES
random_file() { head -c "$2" /dev/urandom >"$1"; }

sha256() { sha256sum | cut -d' ' -f1; }
