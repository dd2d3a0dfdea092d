# SPDX-License-Identifier: Apache-2.0
# A node answers as usbfs does: what programs of 64 and of 32 bits are told at a gadget's real node, they are told at
# the same gadget's node in a guest. And libusb without udev finds devices, and hears what comes and goes.
. /vm/gadget.sh
modprobe cuse
gadget_controllers 2
gadget_create zero 0525 a4a0 ZERO
gadget_function zero SourceSink.0 pattern=1
gadget_create serial 0525 a4a7 SERIAL
gadget_function serial acm.0
gadget_plug zero 0
gadget_plug serial 1
zero=$(wait_device 0525 a4a0) || exit 1
serial=$(wait_device 0525 a4a7) || exit 1

# answers FILE ZERO-NODE SERIAL-NODE: all that is compared, at last what a program sees when the serial adapter is
# pulled out while it waits.
answers() {
    usbfs32 "$2" zero >"$1" || fail "usbfs32 zero: $(tail -n 3 "$1")"
    usbfs32 "$3" serial >>"$1" || fail "usbfs32 serial: $(tail -n 3 "$1")"
    usbfs-usage "$3" >>"$1" 2>&1 || fail "usbfs-usage: $(tail -n 3 "$1")"
    usbfs-usage "$3" unplug >>"$1" 2>&1 8>&- &
    user=$!
    eventually 10 grep -q waiting "$1"
    gadget_unplug serial
    ending $user || fail "usbfs-usage unplug: $(tail -n 3 "$1")"
}
answers /tmp/native "$(usb_node "$zero")" "$(usb_node "$serial")"
cat /tmp/native
gadget_plug serial 1
serial=$(wait_device 0525 a4a7) || exit 1

start_vusbd --emulate zero,pattern=mod63 --emulate keyboard
wait_known "$zero"
wait_known "$serial"
vusbctl guest add web1 --nodes --device "$zero" --device "$serial" --device emu-zero >/dev/null || fail "guest add"
vusbctl load web1 || fail "load"
# node_in_view SERIAL: the node that the device with that serial number has in web1's view.
node_in_view() {
    for view_directory in /vusb/guests/web1/sys/bus/usb/devices/*; do
        [ "$(cat "$view_directory/serial" 2>/dev/null)" = "$1" ] || continue
        printf '/vusb/guests/web1/dev/bus/usb/%03d/%03d\n' "$(cat "$view_directory/busnum")" \
            "$(cat "$view_directory/devnum")"
    done
}
emulated=$(node_in_view "$(api devices | jq -r '.[] | select(.id == "emu-zero") | .serial')")
shown_zero=$(node_in_view ZERO)
shown_serial=$(node_in_view SERIAL)
for node in "$emulated" "$shown_zero" "$shown_serial"; do
    [ -c "$node" ] || fail "'$node' is no node"
done
note "what is said at a node is what usbfs says"
answers /tmp/shown "$shown_zero" "$shown_serial"
diff /tmp/native /tmp/shown >/tmp/differences || fail "the node's answers differ: $(tr '\n' ';' </tmp/differences)"
note "$(wc -l </tmp/shown) answers are the same"

note "32 bits, with the emulated one"
# Without what only the device knows.
of_calls() { sed -n '/^vendor request 5b/,/^RELEASE.* again/p' "$1"; }
usbfs32 "$emulated" zero >/tmp/emulated || fail "usbfs32 zero: $(cat /tmp/emulated)"
of_calls /tmp/native >/tmp/native.calls
of_calls /tmp/emulated | diff /tmp/native.calls - >/tmp/differences ||
    fail "an emulated zero's answers differ: $(tr '\n' ';' </tmp/differences)"
[ "$(wc -l </tmp/native.calls)" -gt 40 ] || fail "there is little to compare: $(cat /tmp/native.calls)"
usbfs32 "$emulated" iso >/tmp/iso || fail "usbfs32 iso: $(cat /tmp/iso)"
equal "whole packets" "$(grep -c '^  packet 1024' /tmp/iso)" 8
equal "packets without an error" "$(grep -c '^  its status 0' /tmp/iso)" 8
vusbctl unload web1 >/dev/null || fail "unload"

note "libusb without udev"
vusbctl guest add web2 --nodes --device emu-zero >/dev/null || fail "guest add"
# With that libusb, and without what is there for libudev.
without_udev="env -u SYSTEMD_DEVICE_VERIFY_SYSFS LD_LIBRARY_PATH=/opt/libusb-without-udev"
vusbctl run --guest web2 --hotplug -- $without_udev lu-plug 5 >/tmp/plug 2>/tmp/plug.error 8>&- &
plug=$!
eventually 20 grep -q listening /tmp/plug
grep -q libusb-without-udev /proc/$plug/maps || fail "lu-plug has another libusb: $(cat /proc/$plug/maps)"
! grep -q libudev /proc/$plug/maps || fail "lu-plug has libudev"
vusbctl attach emu-keyboard web2 >/dev/null || fail "attach"
eventually 10 grep -q '^+ 0525:a4ac' /tmp/plug
vusbctl detach emu-keyboard >/dev/null || fail "detach"
eventually 10 grep -q '^- 0525:a4ac' /tmp/plug
vusbctl attach emu-keyboard web2 >/dev/null || fail "attach"
came_again() { [ "$(grep -c '^+ 0525:a4ac' /tmp/plug)" = 2 ]; }
eventually 10 came_again
vusbctl detach emu-keyboard >/dev/null || fail "detach"
ending $plug || fail "lu-plug: $(cat /tmp/plug.error)"
# It has its number again, which is still free.
equal "what was told" "$(tr '\n' ';' </tmp/plug)" \
    "+ 0525:a4a0 1.2;listening;+ 0525:a4ac 1.3;- 0525:a4ac 1.3;+ 0525:a4ac 1.3;- 0525:a4ac 1.3;"
vusbctl run --guest web2 -- $without_udev lu-zero 64 || fail "lu-zero with libusb without udev"
