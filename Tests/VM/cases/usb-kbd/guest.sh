# SPDX-License-Identifier: Apache-2.0
# QEMU's usb-kbd: keys pressed on the host's side arrive as interrupt reports. It's the keyboard of this kernel's console, so
# it's lent only by a claim that says so.
modprobe -a usbhid hid_generic
keyboard=$(wait_device 0627 0001) || exit 1
eventually 20 is_bound_to "$keyboard" 0 usbhid
start_vusbd
wait_known "$keyboard" available
make_guest web1
refused "is a keyboard of this host's console" vusbctl attach "$keyboard" web1
vusbctl claim add keyboard --match interface=03:01:01 --guest web1 --force >/dev/null || fail "claim add"
wait_known "$keyboard" attached
tree=$(attachment web1 "$keyboard") || exit 1

# Usage codes of the HID usage tables: a is 04, b 05, Enter 28. Each report is 8 bytes; each release is one, too.
urb read "$tree/ep/81" 8 6 >/tmp/reports &
reader=$!
eventually 10 sh -c 'api status | jq -e ".urbsInFlight >= 1"'
host type a b ret
ending $reader || fail "reading reports"
equal "the reports" "$(hexdump -v -e '8/1 "%02x" " "' /tmp/reports)" \
    "0000040000000000 0000000000000000 0000050000000000 0000000000000000 0000280000000000 0000000000000000 "

note "a reader that nothing comes for is killed: its URB is cancelled, the next one works"
urb read "$tree/ep/81" 8 >/dev/null &
reader=$!
eventually 10 sh -c 'api status | jq -e ".urbsInFlight == 1"'
kill -KILL $reader
eventually 10 idle
urb read "$tree/ep/81" 8 1 >/tmp/reports &
reader=$!
eventually 10 sh -c 'api status | jq -e ".urbsInFlight == 1"'
host type c
ending $reader || fail "reading after a cancelled URB"
equal "the report" "$(hexdump -v -e '8/1 "%02x"' /tmp/reports)" 0000060000000000

vusbctl detach "$keyboard" >/dev/null || fail "detach"
eventually 20 is_bound_to "$keyboard" 0 usbhid
