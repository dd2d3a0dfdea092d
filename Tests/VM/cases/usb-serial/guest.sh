# SPDX-License-Identifier: Apache-2.0
# QEMU's usb-serial, an FTDI converter: bytes go both ways between the endpoint files and the host's end of the line.
modprobe ftdi_sio
converter=$(wait_device 0403 6001) || exit 1
eventually 20 is_bound_to "$converter" 0 ftdi_sio
start_vusbd
wait_known "$converter" available
make_guest web1
tree=$(lend "$converter" web1) || exit 1
equal "the kernel's driver" "$(driver_of "$converter" 0)" usbfs

note "from the guest to the line"
echo "hello from the guest" | urb write "$tree/ep/02" || fail "write"
equal "the line got" "$(host receive)" "hello from the guest"

note "from the line to the guest"
# Each packet begins with two bytes of modem status, and may be nothing else.
read_line() {
    received=
    while [ -z "$received" ]; do received=$(urb read "$tree/ep/81" 64 | tail -c +3); done
    echo "$received"
}
read_line >/tmp/received &
reader=$!
eventually 10 sh -c 'api status | jq -e ".urbsInFlight == 1"'
host send "hello from the line"
ending $reader
equal "the guest got" "$(cat /tmp/received)" "hello from the line"

vusbctl detach "$converter" >/dev/null || fail "detach"
eventually 20 is_bound_to "$converter" 0 ftdi_sio
