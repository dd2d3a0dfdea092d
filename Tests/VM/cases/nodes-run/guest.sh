# SPDX-License-Identifier: Apache-2.0
# Unmodified programs see their guest's devices and no others: lsusb says the same of a gadget as on its own kernel,
# usbhid-dump reads what is typed, and nobody else's nodes can be opened.
. /vm/gadget.sh
modprobe cuse
gadget_controllers 1
gadget_create zero 0525 a4a0 ZERO
gadget_function zero SourceSink.0
gadget_plug zero 0
zero=$(wait_device 0525 a4a0) || exit 1

lsusb -t
lsusb -v -d 0525:a4a0 2>/tmp/native.errors | without_numbers >/tmp/native
grep -q iManufacturer /tmp/native || fail "lsusb says nothing: $(cat /tmp/native.errors)"

start_vusbd --emulate keyboard --emulate serial
wait_known "$zero"
vusbctl guest add web1 --nodes --device "$zero" --device emu-keyboard >/dev/null || fail "guest add web1"
vusbctl guest add web2 --nodes --device emu-serial >/dev/null || fail "guest add web2"
vusbctl load web1 || fail "load web1"
vusbctl load web2 || fail "load web2"
shown() {
    shown_guest=$1
    shift
    vusbctl run --guest "$shown_guest" -- "$@"
}
equal "what web1 has" "$(shown web1 lsusb | grep -o 'ID [0-9a-f:]*' | sort | tr '\n' ' ')" \
    "ID 0525:a4a0 ID 0525:a4ac ID 1d6b:0002 "
equal "what web2 has" "$(shown web2 lsusb | grep -o 'ID [0-9a-f:]*' | sort | tr '\n' ' ')" "ID 0525:a4a7 ID 1d6b:0002 "
shown web1 lsusb -v -d 0525:a4a0 2>/tmp/shown.errors | without_numbers >/tmp/shown
diff /tmp/native /tmp/shown || fail "lsusb -v differs: $(cat /tmp/shown.errors)"
note "lsusb -v of the gadget is the same, $(wc -c </tmp/shown) bytes"
shown web1 lsusb -t

note "a keyboard's reports"
# The program itself, which vusbctl becomes: a function's number would be the shell's.
vusbctl run --guest web1 -- usbhid-dump -m 0525:a4ac -e stream -t 0 >/tmp/dump 2>/tmp/dump.error 8>&- &
dump=$!
eventually 10 in_flight emu-keyboard 1
vusbctl type emu-keyboard v || fail "type"
# 19: the usage of V in the keyboard's page.
eventually 10 grep -q "00 00 19 00" /tmp/dump

note "a program that has claimed a device keeps it"
refused "process .* works with" vusbctl detach emu-keyboard --deadline 0s
kill $dump
wait $dump
vusbctl detach emu-keyboard || fail "detach"
equal "what web1 has now" "$(shown web1 lsusb | grep -o 'ID [0-9a-f:]*' | sort | tr '\n' ' ')" \
    "ID 0525:a4a0 ID 1d6b:0002 "

note "no node has numbers of the host's own devices"
for node in /vusb/guests/*/dev/bus/usb/*/*; do
    number=$(printf '%d:%d' $(stat -c '0x%t 0x%T' "$node"))
    [ "$(readlink -f "/sys/dev/char/$number" | grep -c '/devices/virtual/cuse/')" = 1 ] || fail "$node is $number"
done
