# SPDX-License-Identifier: Apache-2.0
# The guest reboots with a transfer in flight and no farewell: module and devices are there again, without being asked
# for.
usb_drivers
start_agent
boots=$(host boots) || exit 1
[ "$boots" != 1 ] || ctl load vm1 --mode module
path=$(wait_our_device 0525 a4ac) || exit 1
keyboard=$(wait_input "$path") || exit 1
path=$(wait_our_device 0525 a4a7) || exit 1
tty=$(wait_tty "$path") || exit 1
serial_echo "$tty" 65536
note "boot $boots works"
read_keys "$keyboard"
ctl type emu-keyboard a
eventually 10 were_typed "30 "
if [ "$boots" -lt 2 ]; then
    reboot -f
fi
stop_keys
ctl unload vm1
no_module_loaded || fail "unload is done, and the module is still here"
