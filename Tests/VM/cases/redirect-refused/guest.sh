# SPDX-License-Identifier: Apache-2.0
# What stands in the way is named with its remedy, what is in use is refused, and nothing is left of it.
modprobe xhci_pci
usb_drivers
is_away() { ! usb_device "$1" "$2"; }

note "no USB controller"
refused_by_host 'no USB controller.*qemu-xhci' load vm1 --mode redirect
ctl load vm1 --mode auto
equal "the mode" "$(host mode)" files
ctl unload vm1

note "all ports are taken"
host plug_controller
ctl load vm1 --mode redirect
ctl attach emu-serial vm1
path=$(wait_device 0525 a4a7) || exit 1
tty=$(wait_tty "$path") || exit 1
refused_by_host 'no free port' attach emu-keyboard vm1
host unplug tablet
ctl attach emu-keyboard vm1
wait_device 0525 a4ac >/dev/null

note "in use"
head -c 6 <"$tty" >/tmp/got 2>/tmp/error &
reader=$!
host refused_busy detach emu-serial --deadline 500ms
host refused_busy unload vm1 --deadline 500ms
kill -0 $reader || fail "the reader is gone although nothing was taken"
echo hello >"$tty" || fail "writing after a refusal"
ending $reader || fail "reading after a refusal: $(cat /tmp/error)"
equal "what was read" "$(cat /tmp/got)" hello
serial_echo "$tty" 65536
cat <"$tty" >/tmp/got 2>/tmp/error &
reader=$!
ctl detach emu-serial --deadline 500ms --cancel
ending $reader
eventually 10 is_away 0525 a4a7
equal "chardevs and devices at QEMU" "$(host plugged)" 2

note "QEMU is frozen: what is refused isn't done later"
ctl attach emu-serial vm1
path=$(wait_device 0525 a4a7) || exit 1
tty=$(wait_tty "$path") || exit 1
host frozen 4 detach emu-serial --deadline 1s
serial_echo "$tty" 65536
host frozen 0 detach emu-serial --deadline 1s --cancel
eventually 10 is_away 0525 a4a7
host eventually_plugged 2
ctl attach emu-serial vm1
path=$(wait_device 0525 a4a7) || exit 1
tty=$(wait_tty "$path") || exit 1
serial_echo "$tty" 65536
ctl unload vm1
equal "chardevs and devices at the end" "$(host plugged)" 0
