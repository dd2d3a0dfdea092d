# SPDX-License-Identifier: Apache-2.0
# `vusbctl load` of guests of mode usbip attaches from inside, over TCP with this machine's usbip and over a virtio serial port
# with the helper that vusbd copies; `unload` leaves nothing.
usb_drivers
modprobe virtio_net || fail "no network"
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
start_agent

. /vm/vhci.sh
no_vhci() { [ ! -d /sys/module/vhci_hcd ] && [ ! -d /sys/module/usbip_core ]; }
no_helper() { ! ls -d /run/vusb-* /tmp/vusb-* 2>/dev/null | grep .; }
nothing_left() {
    no_vhci || fail "unload is done, and vhci_hcd is still here"
    no_helper || fail "unload is done, and the helper is still here"
    eventually 10 no_pump
}
no_pump() { ! pidof vusb-attach; }

both_sides() {
    path=$(wait_vhci_device 0525 a4a5) || exit 1
    both_sides_agree "$path" emu-disk
}

note "over a serial port, with the helper that is copied"
mv /bin/usbip /bin/usbip.away
ctl load port
host load_said copying
ctl attach emu-disk port
both_sides
equal "its state" "$(host state_of emu-disk)" imported
note "one device at a time"
ctl attach emu-serial port
no_vhci_device 0525 a4a7 || fail "two devices at one port"
ctl detach emu-disk
eventually 10 no_vhci_device 0525 a4a5
ctl detach emu-serial
ctl attach emu-serial port
tty=$(wait_tty "$(wait_vhci_device 0525 a4a7)") || exit 1
serial_echo "$tty" 262144
note "the guest drops it: vusbd hears of that over the port"
drop_all
eventually 10 no_vhci_device 0525 a4a7
host free emu-serial
note "a helper that is killed says nothing: the next one ends its session"
ctl detach emu-serial
ctl attach emu-serial port
wait_vhci_device 0525 a4a7 >/dev/null || exit 1
kill -KILL "$(pidof vusb-attach)"
eventually 10 no_vhci_device 0525 a4a7
equal "its state" "$(host state_of emu-serial)" imported
ctl attach emu-disk port
wait_vhci_device 0525 a4a5 >/dev/null || exit 1
host free emu-serial
ctl unload port
nothing_left

note "over TCP, without the usbip tool"
ctl load tcp
host load_said copying
ctl attach emu-disk tcp
both_sides
ctl unload tcp
eventually 10 no_vhci_device 0525 a4a5
nothing_left

note "over TCP, with the usbip tool"
mv /bin/usbip.away /bin/usbip
ctl load tcp
host load_said usbip,
no_helper || fail "a helper that nobody needs"
for device in emu-disk emu-serial; do ctl attach $device tcp; done
both_sides
tty=$(wait_tty "$(wait_vhci_device 0525 a4a7)") || exit 1
serial_echo "$tty" 262144
ctl detach emu-disk
eventually 10 no_vhci_device 0525 a4a5
ctl attach emu-disk tcp
both_sides
ctl unload tcp
nothing_left
