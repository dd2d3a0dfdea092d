# SPDX-License-Identifier: Apache-2.0
# Policy on-demand: the first device brings the module, the last one takes it along.
usb_drivers
start_agent
no_module_loaded || fail "a module is here before any device"
ctl attach emu-serial vm1
path=$(wait_our_device 0525 a4a7) || exit 1
tty=$(wait_tty "$path") || exit 1
serial_echo "$tty" 65536
ctl attach emu-keyboard vm1
wait_our_device 0525 a4ac >/dev/null
ctl detach emu-serial
eventually 10 gone_from_us 0525 a4a7
is_module_loaded || fail "the module went with the first of two devices"
ctl detach emu-keyboard
eventually 20 no_module_loaded
host unloaded
ctl attach emu-keyboard vm1
wait_our_device 0525 a4ac >/dev/null
ctl unload vm1
eventually 20 no_module_loaded
