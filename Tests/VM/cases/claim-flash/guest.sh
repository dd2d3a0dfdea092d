# SPDX-License-Identifier: Apache-2.0
# A board that is flashed comes back under another VID:PID at once, again and again: by a claim on its port it's its
# guest's each time, and no other guest's whose claim is on one of its names.
. /vm/gadget.sh
gadget_controllers 1
gadget_create board 0525 a4a0 BOARD
gadget_function board SourceSink.0
gadget_plug board 0
port=$(wait_device 0525 a4a0) || exit 1
start_vusbd
wait_known "$port"
make_guest web1
make_guest web2
vusbctl claim add board --match "port=$port" --guest web1 >/dev/null || fail "claim add board"
vusbctl claim add bootloader --match product=0483:df11 --guest web2 >/dev/null || fail "claim add bootloader"

# is_of GUEST VID PID: the board is in its tree, under that name.
is_of() { [ "$(cat "/vusb/guests/$1"/devices/*/idVendor) $(cat "/vusb/guests/$1"/devices/*/idProduct)" = "$2 $3" ]; }
eventually 20 is_of web1 0525 a4a0

# becomes VID PID: as a board does that leaves its firmware, or its boot loader.
becomes() {
    gadget_unplug board
    echo "0x$1" >/sys/kernel/config/usb_gadget/board/idVendor
    echo "0x$2" >/sys/kernel/config/usb_gadget/board/idProduct
    gadget_plug board 0
    eventually 20 is_of web1 "$1" "$2"
}
for n in $(seq 10); do
    becomes 0483 df11
    becomes 0525 a4a0
done
equal "what it was seen as" "$(jq -s --arg port "$port" '[.[] | select(.type == "attached" and .device == $port)] | length' /tmp/events)" 21
[ ! -e "/vusb/guests/web2/devices/1-1" ] || fail "web2 has it"
vusbctl claim explain "$port" | grep -q 'claim board is the first that fits.*(C2)' || fail "$(vusbctl claim explain "$port")"
refused "would never decide" vusbctl claim add late --match "port=$port" --match class=ff --guest web2
for guest in web1 web2; do vusbctl unload $guest >/dev/null || fail "unload $guest"; done
