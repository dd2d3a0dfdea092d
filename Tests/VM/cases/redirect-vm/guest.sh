# SPDX-License-Identifier: Apache-2.0
# A virtual machine with nothing of vusb in it: vusbd plugs devices into its xHCI controller, its own drivers use them,
# and `unload` leaves nothing.
modprobe xhci_pci
usb_drivers
ctl load vm1
equal "the mode" "$(host mode vm1)" redirect

# check_disk ID SPEED: lent, at its speed (in Mbit/s); both sides see the same bytes.
check_disk() {
    note "$1"
    ctl attach "$1" vm1
    path=$(wait_device 0525 a4a5) || exit 1
    equal "its speed" "$(cat "/sys/bus/usb/devices/$path/speed")" "$2"
    equal "its driver" "$(driver_of "$path" 0)" usb-storage
    both_sides_agree "$path" "$1"
}
is_away() { ! usb_device "$1" "$2"; }
check_disk emu-disk 480

note "a disk that is read all the time isn't taken away"
(while dd if="/dev/$disk" of=/dev/null bs=65536 iflag=direct; do :; done) >/dev/null 2>/tmp/dd.errors 8>&- &
reader=$!
refused_by_host "its machine works with it" detach emu-disk --deadline 1s
kill $reader
wait $reader
! grep -i error /tmp/dd.errors || fail "the reader saw an error"
ctl detach emu-disk
eventually 10 is_away 0525 a4a5
check_disk emu-fast 5000
for device in emu-serial emu-keyboard emu-disk; do ctl attach $device vm1; done

note "four devices at once"
path=$(wait_device 0525 a4a7) || exit 1
tty=$(wait_tty "$path") || exit 1
serial_echo "$tty" 1048576
path=$(wait_device 0525 a4ac) || exit 1
keyboard=$(wait_input "$path") || exit 1
read_keys "$keyboard"
ctl type emu-keyboard vusb
# KEY_V KEY_U KEY_S KEY_B
eventually 10 were_typed "47 22 31 48 "
stop_keys

note "away again"
ctl detach emu-serial
eventually 10 is_away 0525 a4a7
ctl unload vm1
eventually 10 is_away 0525 a4a5
eventually 10 is_away 0525 a4ac
equal "the chardevs and devices that are left" "$(host leftovers)" ""
