#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# demo.sh: vusb at work with emulated devices, in a few seconds. Called by `make demo`; needs root for the mount. All
# that it makes lies in a temporary folder and is gone at the end.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
release=$here/../.build-release/release
vusbd=${VUSBD:-$release/vusbd}
vusbctl=${VUSBCTL:-$release/vusbctl}

work=$(mktemp -d)
mount=$work/vusb
export VUSB_SOCKET=$work/vusb.sock
daemon=
clean_up() {
    if [[ -n $daemon ]]; then
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" || true
    fi
    ! mountpoint -q "$mount" || umount -l "$mount"
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

step() { printf '\n== %s\n' "$*"; }
# Shows a command, then runs it; vusbctl by its short name.
run() {
    printf '$ %s\n' "${*//"$work"/}"
    "$@"
}
vusbctl() { "$vusbctl" "$@" 2> >(grep -v '^\(load\|unload\) ' >&2); }

step "A disk image with a file in it"
truncate -s 4M "$work/disk.img"
mkfs.vfat -n VUSB "$work/disk.img" >/dev/null
echo "hello from a USB stick" >"$work/hello.txt"
mcopy -i "$work/disk.img" "$work/hello.txt" ::HELLO.TXT
echo "4 MiB, FAT, HELLO.TXT"

step "vusbd, with three devices that it emulates"
mkdir "$mount"
coproc READY { exec socat -u "UNIX-RECV:$work/notify" STDOUT; }
until [[ -S $work/notify ]]; do sleep 0.05; done
NOTIFY_SOCKET=$work/notify "$vusbd" --mount "$mount" --socket "$VUSB_SOCKET" --state "$work/state" --no-host \
    --emulate "disk=$work/disk.img" --emulate serial --emulate zero --log-level warning &
daemon=$!
while IFS= read -r -t 10 line <&"${READY[0]}"; do [[ $line != READY=1 ]] || break; done
kill "$READY_PID" 2>/dev/null || true
[[ -S $VUSB_SOCKET ]] || { echo "vusbd did not start"; exit 1; }
run vusbctl devices

step "A guest that is to have the disk and the serial port"
ids() { "$vusbctl" devices --json | python3 -c 'import json, sys; print(*(d["id"] for d in json.load(sys.stdin)))'; }
disk= serial=
for id in $(ids); do
    case $id in
        *disk*) disk=$id ;;
        *serial*) serial=$id ;;
    esac
done
run vusbctl guest add web1 --device "$disk" --device "$serial"
run vusbctl load web1
run vusbctl status

step "What the guest sees: every endpoint is a file"
(cd "$mount/guests" && find web1 -type f -path '*/devices/*' ! -path '*/ep/*' -o -print | sort)
echo "… and in each device's directory its attributes, as in sysfs: $(cd "$mount/guests/web1/devices/1-1" && echo id* s* d*)"
path_of() {
    "$vusbctl" guests --json | python3 -c 'import json, sys
print(*(a["path"] for g in json.load(sys.stdin) for a in g["attachments"] if a["device"] == sys.argv[1]))' "$1"
}
devices=$mount/guests/web1/devices
disk_directory=$devices/$(path_of "$disk")
serial_directory=$devices/$(path_of "$serial")

step "A line through the serial port's endpoint files, and back"
cd "$serial_directory/ep"
run ls
echo '$ echo "one write, one USB transfer" >01; dd bs=64 count=1 <81'
echo "one write, one USB transfer" >01
dd bs=64 count=1 status=none <81
cd "$here"

step "A sector of the disk, by a bulk-only command sent with plain file I/O (read-sector.py)"
for sector in 0 $(("$(grep -abo 'hello from' "$work/disk.img" | cut -d: -f1)" / 512)); do
    echo "sector $sector:"
    python3 "$here/read-sector.py" "$disk_directory" "$sector" | head -c 64 | od -A d -c | head -n 3
done

step "And down again"
run vusbctl unload web1
kill "$daemon"
wait "$daemon"
daemon=
! mountpoint -q "$mount" && echo "vusbd has ended, nothing is left"
