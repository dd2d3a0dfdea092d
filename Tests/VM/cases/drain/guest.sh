# SPDX-License-Identifier: Apache-2.0
# A device is taken from a guest whose reader is blocked: refused at the deadline with all as it was, or cancelled if
# that is asked for; vusbd's stop cancels, too. The host's driver has the device each time.
modprobe -a usbhid hid_generic
keyboard=$(wait_device 0627 0001) || exit 1
start_vusbd
wait_known "$keyboard" available
make_guest web1
# It's the console's.
vusbctl claim add keyboard --match "port=$keyboard" --guest web1 --force >/dev/null || fail "claim add"
wait_known "$keyboard" attached

# Leaves a reader blocked: its pid in `reader`, what it read in /tmp/reports, its error in /tmp/reader-error.
block_reader() {
    urb read "$tree/ep/81" 8 >/tmp/reports 2>/tmp/reader-error &
    reader=$!
    eventually 10 sh -c 'api status | jq -e ".urbsInFlight == 1"'
}
# must_exit STATUS COMMAND…
must_exit() {
    must_status=$1
    shift
    "$@" >/tmp/output 2>&1
    equal "exit status of '$*' ($(cat /tmp/output))" $? "$must_status"
}
reader_ended() {
    ending $reader && fail "$1: the blocked reader got something"
    grep -qwE 'ENODEV|EINTR' /tmp/reader-error || fail "$1: the blocked reader ended with $(cat /tmp/reader-error)"
}

note "refused at the deadline"
tree=$(attachment web1 "$keyboard") || exit 1
block_reader
must_exit 4 vusbctl detach "$keyboard" --deadline 500ms
must_exit 4 vusbctl unload web1 --deadline 500ms
equal "the guest's state" "$(cat /vusb/guests/web1/state)" loaded
kill -0 $reader || fail "the reader is gone although nothing was taken"
host type a
ending $reader || fail "the reader after a refusal: $(cat /tmp/reader-error)"
equal "its report" "$(hexdump -v -e '8/1 "%02x"' /tmp/reports)" 0000040000000000
urb read "$tree/ep/81" 8 >/tmp/reports || fail "the release of the key"

note "drained: what ends in time ends well"
block_reader
vusbctl detach "$keyboard" --deadline 30s >/tmp/detach 2>&1 8>&- &
detaching=$!
eventually 10 knows_device "$keyboard" changing
host type b
ending $detaching || fail "detach: $(cat /tmp/detach)"
ending $reader || fail "the reader that got its report in time: $(cat /tmp/reader-error)"
eventually 20 is_bound_to "$keyboard" 0 usbhid

note "cancelled"
tree=$(lend "$keyboard" web1) || exit 1
block_reader
must_exit 0 vusbctl unload web1 --deadline 500ms --cancel
reader_ended "unload --cancel"
eventually 20 is_bound_to "$keyboard" 0 usbhid
must_exit 1 vusbctl unload web1

note "vusbd stops"
vusbctl load web1 >/dev/null || fail "load"
attachment web1 "$keyboard" >/dev/null || lend "$keyboard" web1 >/dev/null
tree=$(attachment web1 "$keyboard")
block_reader
stop_vusbd
reader_ended "stop"
eventually 20 is_bound_to "$keyboard" 0 usbhid
