# SPDX-License-Identifier: Apache-2.0
# vusbd on the host, a virtual machine with a guest agent: `vusbctl load` there brings module and devices here, the
# kernel's own drivers use them, and `unload` leaves nothing.
usb_drivers
start_agent
ctl load vm1 --mode module
is_module_loaded || fail "load is done, and no module is here"
grep -q ' /vusb ' /proc/mounts || fail "load is done, and /vusb isn't mounted"

# check_disk ID SPEED: lent, on the root hub of its speed (in Mbit/s); both sides see the same bytes.
check_disk() {
    note "$1"
    ctl attach "$1" vm1
    path=$(wait_our_device 0525 a4a5) || exit 1
    equal "its speed" "$(cat "/sys/bus/usb/devices/$path/speed")" "$2"
    equal "its root hub's" "$(cat "/sys/bus/usb/devices/usb${path%-*}/speed")" "$2"
    equal "its driver" "$(driver_of "$path" 0)" usb-storage
    both_sides_agree "$path" "$1"
}
check_disk emu-disk 480
ctl detach emu-disk
eventually 10 gone_from_us 0525 a4a5
check_disk emu-fast 5000
for device in emu-serial emu-keyboard; do ctl attach $device vm1; done

note "serial adapter"
path=$(wait_our_device 0525 a4a7) || exit 1
tty=$(wait_tty "$path") || exit 1
serial_echo "$tty" 1048576

note "keyboard"
path=$(wait_our_device 0525 a4ac) || exit 1
keyboard=$(wait_input "$path") || exit 1
read_keys "$keyboard"
ctl type emu-keyboard vusb
# KEY_V KEY_U KEY_S KEY_B
eventually 10 were_typed "47 22 31 48 "

note "what the module says of it all"
for line in "path: /vusb/hcd" "file: open" "error: 0" "opens: 1" "channel: open" "exporter: parallel" "losses: 0" \
    "abandoned: 0" "no_memory: 0" "in_flight: 1"; do
    equal "${line%%:*}" "$(hcd_state "${line%%:*}")" "${line#*: }"
done
# The keyboard's is the URB in flight.
equal "in flight at the keyboard" "$(hcd_port "usb2-${path#*-}" in_flight)" 1
disk=usb3-$(our_device 0525 a4a5 | cut -d- -f2)
equal "the disk's speed and URBs in flight" "$(hcd_port "$disk" speed) $(hcd_port "$disk" in_flight)" "5 0"
[ "$(hcd_port "$disk" bytes_in)" -ge 16777216 ] || fail "the disk's image was read, but not by the module's count"
[ "$(hcd_port "$disk" bytes_out)" -ge 3000001 ] || fail "a file was written, but not by the module's count"
[ "$(hcd_state urbs)" -ge "$(hcd_port "$disk" urbs)" ] || fail "the disk has more URBs than all"

note "a device that keeps all its URBs waiting leaves room for the others"
path=$(our_device 0525 a4a7) || exit 1
hold "$(usb_node "$path")" 1 0x81 600 512 >/tmp/held 2>&1 8>&- &
holder=$!
eventually 10 grep -q held /tmp/held
has_in_flight() { [ "$(hcd_port "$1" in_flight)" -eq "$2" ]; }
# The host takes 1024 at once: no more than are left, and the keyboard has one.
eventually 10 has_in_flight "usb2-${path#*-}" 512
equal "its URBs that wait here" "$(hcd_port "usb2-${path#*-}" queued)" 88
ctl type emu-keyboard v
eventually 10 were_typed "47 22 31 48 47 "
fast=$(wait_disk "$(our_device 0525 a4a5)") || exit 1
dd if="/dev/$fast" of=/dev/null bs=1M count=4 iflag=direct 2>/dev/null || fail "reading the disk"
kill $holder
ending $holder
eventually 10 has_in_flight "usb2-${path#*-}" 0
stop_keys

note "away again"
ctl detach emu-serial
eventually 10 gone_from_us 0525 a4a7
ctl unload vm1
no_module_loaded || fail "unload is done, and the module is still here"
! grep -q ' /vusb ' /proc/mounts || fail "unload is done, and /vusb is still mounted"
