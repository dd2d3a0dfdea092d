# SPDX-License-Identifier: Apache-2.0
# Programs on Debian's libusb, which find their devices as anywhere: all types of transfers with the expected bytes, 32
# in flight, cancels, a device that is taken away meanwhile, and callbacks for what comes and goes.
modprobe cuse
head -c 4194304 /dev/urandom >/tmp/disk.img
cat >/tmp/vusb.yaml <<'END'
emulate: ["zero,pattern=mod63", serial, keyboard, disk=/tmp/disk.img]
guests:
  web1: {nodes: true, load: true, devices: [emu-zero, emu-serial, emu-keyboard, emu-disk]}
  # Loaded by the program that is to be told what comes and goes.
  web2: {nodes: true, devices: [emu-zero]}
END
start_vusbd --config /tmp/vusb.yaml
eventually 10 attachment web1 emu-disk
# in_view PROGRAM…
in_view() { vusbctl run --guest web1 -- "$@"; }

note "control, bulk, isochronous, interrupt"
in_view lu-zero || fail "lu-zero"

note "what is sent comes back"
in_view lu-serial echo || fail "lu-serial echo"
in_view lu-serial cancel || fail "lu-serial cancel"
eventually 10 idle

note "a disk"
in_view lu-disk 0525:a4a5 read | cmp - /tmp/disk.img || fail "what was read differs from the image"
head -c 1048576 /dev/urandom >/tmp/new
in_view lu-disk 0525:a4a5 write 1000 </tmp/new || fail "lu-disk write"
dd if=/tmp/disk.img bs=512 skip=1000 count=2048 2>/dev/null | cmp - /tmp/new || fail "the image lacks what was written"

note "a keyboard"
vusbctl run --guest web1 -- lu-plug keys 4 >/tmp/keys 2>/tmp/keys.error 8>&- &
keys=$!
eventually 10 in_flight emu-keyboard 1
vusbctl type emu-keyboard vU || fail "type"
ending $keys || fail "lu-plug keys: $(cat /tmp/keys.error)"
# HID usages: 19 is v, 18 u; modifier 2 is the left shift.
equal "the reports" "$(tr '\n' ' ' </tmp/keys)" "0000190000000000 0000000000000000 0200180000000000 0000000000000000 "

note "a device is taken away while 32 transfers are in flight"
vusbctl run --guest web1 -- lu-serial hold >/tmp/hold 2>&1 8>&- &
hold=$!
eventually 10 grep -q held /tmp/hold
eventually 10 in_flight emu-serial 32
vusbctl detach emu-serial --cancel --deadline 0s || fail "detach"
ending $hold || fail "lu-serial hold: $(cat /tmp/hold)"
equal "how the transfers ended" "$(tr '\n' ' ' </tmp/hold)" "held gone: 32 of 32 "
in_view lu-zero 32 >/dev/null || fail "another device is affected"

note "callbacks for what comes and goes"
vusbctl unload web1 >/dev/null || fail "unload"
vusbctl run --guest web2 --hotplug -- lu-plug 5 >/tmp/plug 2>/tmp/plug.error 8>&- &
plug=$!
eventually 20 grep -q listening /tmp/plug
vusbctl attach emu-keyboard web2 >/dev/null || fail "attach"
eventually 10 grep -q '^+ 0525:a4ac' /tmp/plug
vusbctl detach emu-keyboard >/dev/null || fail "detach"
eventually 10 grep -q '^- 0525:a4ac' /tmp/plug
vusbctl attach emu-serial web2 >/dev/null || fail "attach"
eventually 10 grep -q '^+ 0525:a4a7' /tmp/plug
vusbctl detach emu-serial >/dev/null || fail "detach"
ending $plug || fail "lu-plug: $(cat /tmp/plug.error)"
cat /tmp/plug
# Numbers are not given again while the guest is loaded, and nothing that stays gets another.
equal "what was told" "$(tr '\n' ';' </tmp/plug)" \
    "+ 0525:a4a0 1.2;listening;+ 0525:a4ac 1.3;- 0525:a4ac 1.3;+ 0525:a4a7 1.4;- 0525:a4a7 1.4;"
