# SPDX-License-Identifier: Apache-2.0
# A real device by the kernel's lights: gadgets on dummy_hcd, taken from this kernel by libusb, given back to the same
# kernel by the module, connector local. vusbd, module and devices are all in this one guest. The zero has its alternate
# setting 0 only, here: dummy_hcd has no isochronous endpoints, and without them f_sourcesink makes no other setting.
. /vm/gadget.sh
modprobe -a usb_storage sd_mod vfat cdc_acm usbhid hid_generic evdev
head -c 8388608 /dev/urandom >/tmp/backing
# The boot keyboard of the HID specification, without its LEDs: a byte of modifiers, a constant one, six of keys.
printf '\x05\x01\x09\x06\xa1\x01\x05\x07\x19\xe0\x29\xe7\x15\x00\x25\x01\x75\x01\x95\x08\x81\x02\x95\x01\x75\x08\x81\x01' >/tmp/report
printf '\x95\x06\x75\x08\x15\x00\x25\x65\x05\x07\x19\x00\x29\x65\x81\x00\xc0' >>/tmp/report
gadget_controllers 4
gadget_create zero 0525 a4a0 ZERO1
gadget_function zero SourceSink.0
gadget_create disk 1d6b 0104 DISK1
gadget_function disk mass_storage.0 lun.0/removable=1 lun.0/file=/tmp/backing
gadget_create serial 0525 a4a7 SERIAL1
gadget_function serial acm.0
gadget_create keyboard 0525 a4ac KEYBOARD1
gadget_function keyboard hid.0 protocol=1 subclass=1 report_length=8 report_desc=@/tmp/report
gadget_plug zero 0
gadget_plug disk 1
gadget_plug serial 2
gadget_plug keyboard 3
zero=$(wait_device 0525 a4a0) || exit 1
stick=$(wait_device 1d6b 0104) || exit 1
serial=$(wait_device 0525 a4a7) || exit 1
keyboard=$(wait_device 0525 a4ac) || exit 1
eventually 20 test -b /dev/sda

start_vusbd --modules /vm/modules
wait_known "$zero" available
wait_known "$stick" available
wait_known "$serial" available
wait_known "$keyboard" available
vusbctl guest add vm1 >/dev/null || fail "guest add"
vusbctl load vm1 --mode module || fail "load"
vusbctl attach "$zero" vm1 >/dev/null || fail "attach the zero"
vusbctl attach "$stick" vm1 >/dev/null || fail "attach the disk"
vusbctl attach "$serial" vm1 >/dev/null || fail "attach the serial adapter"
# The console's keyboard.
vusbctl claim add keyboard --match "port=$keyboard" --guest vm1 --force >/dev/null || fail "claim add"
wait_known "$keyboard" attached

note "what hangs on vusb_hcd isn't lent again"
path=$(wait_our_device 1d6b 0104) || exit 1
api devices >/tmp/devices
jq -e --arg id "$path" 'map(select(.id == $id and .state == "available")) | length == 0' /tmp/devices >/dev/null ||
    fail "a device of ours is offered as one of the host's"

note "disk"
disk=$(wait_disk "$path") || exit 1
equal "its bytes" "$(sha256sum <"/dev/$disk" | cut -d' ' -f1)" "$(sha256sum </tmp/backing | cut -d' ' -f1)"
head -c 2097152 /dev/urandom >/tmp/new
dd if=/tmp/new of="/dev/$disk" bs=65536 seek=16 conv=fsync 2>/dev/null || fail "writing"
dd if=/tmp/backing bs=65536 skip=16 count=32 2>/dev/null | cmp - /tmp/new || fail "the backing file lacks what was written"

note "serial adapter"
path=$(wait_our_device 0525 a4a7) || exit 1
tty=$(wait_tty "$path") || exit 1
stty -F /dev/ttyGS0 raw -echo -echoe -echok || fail "stty of the gadget's side"
cat </dev/ttyGS0 >/dev/ttyGS0 2>/dev/null &
echoer=$!
serial_echo "$tty" 1048576
kill $echoer
ending $echoer

note "keyboard"
path=$(wait_our_device 0525 a4ac) || exit 1
input=$(wait_input "$path") || exit 1
read_keys "$input"
# Each key is pressed and let go of. KEY_V KEY_U KEY_S KEY_B
for key in 19 18 16 05; do
    printf "\\x00\\x00\\x$key\\x00\\x00\\x00\\x00\\x00" >/dev/hidg0 || fail "pressing a key"
    printf '\x00\x00\x00\x00\x00\x00\x00\x00' >/dev/hidg0 || fail "letting go of a key"
done
eventually 10 were_typed "47 22 31 48 "
stop_keys

note "usbtest"
path=$(wait_our_device 0525 a4a0) || exit 1
usbtest_alternate "$path" 0
usbtests "$path" "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 17 18 19 20 21 24 27 28 29" \
    0 1 2 3 4 5:20 6:20 7:20 8:20 9:20 10:20 11:100 12:100 13:20 14:200 17 18 19 20 21:200 24:100:512 27:50:16384 28:50:16384 29

note "a real unplug goes through"
gadget_unplug disk
eventually 10 gone_from_us 1d6b 0104
rmmod usbtest
vusbctl unload vm1 || fail "unload"
no_module_loaded || fail "unload is done, and the module is still here"
