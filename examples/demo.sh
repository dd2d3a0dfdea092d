#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# demo.sh: vusb at work in some seconds, on emulated devices: no USB hardware needed, and nothing is left behind.
# Needs root and /dev/fuse. `make demo` builds the programs and calls this; $VUSBD and $VUSBCTL name others.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
release=$here/../.build-release/release
VUSBD=$(realpath "${VUSBD:-$release/vusbd}")
VUSBCTL=$(realpath "${VUSBCTL:-$release/vusbctl}")
PATH=$PATH:/sbin:/usr/sbin
((EUID == 0)) || { echo "demo.sh: run it as root: it mounts a file system" >&2; exit 1; }
[[ -c /dev/fuse ]] || { echo "demo.sh: /dev/fuse not found; try modprobe fuse" >&2; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/vusb-demo.XXXXXX")
vusbd_id=
clean() {
    if [[ -n $vusbd_id ]] && kill -TERM "$vusbd_id" 2>/dev/null; then wait "$vusbd_id" || true; fi
    ! mountpoint -q "$work/vusb" || umount -l "$work/vusb"
    rm -rf --one-file-system "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM

# What programs say of their progress stays in its place also where this goes to a file.
exec 2>&1
cd "$work"
export VUSB_SOCKET=$work/vusb.sock
vusbctl() { "$VUSBCTL" "$@"; }
read-sector.py() { /usr/bin/python3 "$here/read-sector.py" "$@"; }
if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi
say() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
# Prints a command, then runs it.
run() {
    printf '%s$ %s%s\n' "$bold" "$*" "$plain"
    eval "$*"
}

say "A disk image with a file in it, to be the content of a USB stick."
run "truncate --size 4M stick.img && mkfs.vfat -n STICK stick.img >mkfs.log"
run "echo 'These bytes came over USB, through two files.' >hello.txt"
run "mcopy -i stick.img hello.txt ::HELLO.TXT"

say "The daemon, with three emulated devices: a stick, a serial adapter that echoes, a Gadget Zero."
emulate="--emulate disk=stick.img --emulate serial --emulate zero"
printf '%s$ vusbd --no-host %s --mount vusb &%s\n' "$bold" "$emulate" "$plain"
# It tells when it is ready, as it tells systemd (sd_notify(3)).
mkfifo ready
/usr/bin/python3 -c '
import socket
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.bind("notify.sock")
    print("listening", flush=True)
    notify.settimeout(20)
    while b"READY=1" not in notify.recv(4096).splitlines():
        pass
print("ready", flush=True)' >ready &
exec {ready}<ready
read -r <&"$ready"
# shellcheck disable=SC2086
NOTIFY_SOCKET=$work/notify.sock "$VUSBD" --no-host $emulate --mount "$work/vusb" --socket "$VUSB_SOCKET" \
    --state "$work/state" >vusbd.log 2>&1 &
vusbd_id=$!
read -r <&"$ready" || { cat vusbd.log; exit 1; }
run "vusbctl devices"

say "A guest. It may have two of them; vusbctl load lends them to it."
run "vusbctl guest add web1 --device emu-serial --device 0525:a4a5"
run "vusbctl load web1"
run "vusbctl status"

say "What the guest sees: bind-mount or export this directory, and nothing else."
run "find vusb/guests/web1 -path '*/devices/*/*' -prune -o -print | sort"
for device in vusb/guests/web1/devices/*; do
    case $(<"$device/product") in
        *erial*) serial=$device ;;
        *isk*) stick=$device ;;
    esac
done
run "ls $serial"
run "cat $serial/{idVendor,idProduct,product,speed}"
run "ls $serial/ep $stick/ep"

say "A line through the serial adapter: one write and one read are one USB transfer each."
run "echo 'hello, serial' >$serial/ep/01"
run "dd if=$serial/ep/81 bs=512 count=1 status=none"

say "The stick's file, by bulk-only commands in plain file I/O (examples/read-sector.py)."
run "read-sector.py $stick HELLO.TXT"

say "A third device, while all is running; its control endpoint answers too (GET_DESCRIPTOR, 18 bytes)."
run "vusbctl attach emu-zero web1"
zero=$(printf '%s\n' vusb/guests/web1/devices/* | grep -vxF -e "$serial" -e "$stick")
run "{ printf '\\200\\006\\000\\001\\000\\000\\022\\000' >&3; od -An -tx1 <&3; } 3<>$zero/ep/00"

say "Given back: drained, detached, reset."
run "vusbctl unload web1"
run "cat vusb/guests/web1/state"
run "vusbctl guest rm web1"

say "The daemon stops, unmounts and leaves nothing."
run "kill $vusbd_id"
wait "$vusbd_id"
vusbd_id=
! mountpoint -q vusb || { echo "demo.sh: $work/vusb is mounted still"; exit 1; }
[[ ! -e $VUSB_SOCKET ]] || { echo "demo.sh: $VUSB_SOCKET is there still"; exit 1; }
