# SPDX-License-Identifier: Apache-2.0
# Mode auto by what is measured: a machine that could have both begins with its controller, gets the module when it has
# changed little, and its controller again when it's loaded and unloaded often; the devices work in each.
modprobe xhci_pci
usb_drivers
start_agent
# In the module's mode the adapter is on a root hub of vusb_hcd, else it isn't.
try_adapter() {
    path=$(wait_device 0525 a4a7) || exit 1
    equal "on a root hub of the module's" "$(our_device 0525 a4a7)" "$1"
    tty=$(wait_tty "$path") || exit 1
    serial_echo "$tty" 65536
}
is_away() { ! usb_device 0525 a4a7; }

note "nothing is known of it yet: its controller"
ctl load vm1
equal "the mode" "$(host mode vm1)" redirect
ctl attach emu-serial vm1
try_adapter ""

note "a window without a change: the module, once it has no device"
host next vm1 module 40
equal "the mode while it has one" "$(host mode vm1)" redirect
ctl detach emu-serial
eventually 10 is_away
host becomes vm1 module 40
is_module_loaded || fail "it's in mode module, and no module is here"
ctl attach emu-serial vm1
wait_our_device 0525 a4a7 >/dev/null
try_adapter "$(our_device 0525 a4a7)"

note "loaded and unloaded again and again: its controller"
loads=0
while [ "$(host mode vm1)" = module ]; do
    [ $loads -lt 10 ] || fail "after $loads loads it has the module yet"
    ctl unload vm1
    ctl load vm1
    loads=$((loads + 1))
done
note "after $loads loads: $(host why vm1)"
[ $loads -gt 1 ] || fail "one load was enough"
equal "the mode" "$(host mode vm1)" redirect
eventually 20 no_module_loaded
ctl attach emu-serial vm1
try_adapter ""
ctl unload vm1
