# SPDX-License-Identifier: Apache-2.0
# A real device by the kernel's lights: gadgets on dummy_hcd, taken from this kernel by libusb, given back to the same
# kernel by the module, connector local. vusbd, module and devices are all in this one guest. The zero has its alternate
# setting 0 only, here: dummy_hcd has no isochronous endpoints, and without them f_sourcesink makes no other setting.
. /vm/gadget.sh
modprobe -a usb_storage sd_mod vfat
head -c 8388608 /dev/urandom >/tmp/backing
gadget_controllers 2
gadget_create zero 0525 a4a0 ZERO1
gadget_function zero SourceSink.0
gadget_create disk 1d6b 0104 DISK1
gadget_function disk mass_storage.0 lun.0/removable=1 lun.0/file=/tmp/backing
gadget_plug zero 0
gadget_plug disk 1
zero=$(wait_device 0525 a4a0) || exit 1
stick=$(wait_device 1d6b 0104) || exit 1
eventually 20 test -b /dev/sda

start_vusbd --modules /vm/modules
wait_known "$zero" available
wait_known "$stick" available
vusbctl guest add vm1 >/dev/null || fail "guest add"
vusbctl load vm1 --mode module || fail "load"
vusbctl attach "$zero" vm1 >/dev/null || fail "attach the zero"
vusbctl attach "$stick" vm1 >/dev/null || fail "attach the disk"

note "what hangs on vusb_hcd isn't lent again"
path=$(wait_our_device 1d6b 0104) || exit 1
vusbctl devices --json >/tmp/devices
jq -e --arg id "$path" 'map(select(.id == $id and .state == "available")) | length == 0' /tmp/devices >/dev/null ||
    fail "a device of ours is offered as one of the host's"

note "disk"
disk=$(wait_disk "$path") || exit 1
equal "its bytes" "$(sha256sum <"/dev/$disk" | cut -d' ' -f1)" "$(sha256sum </tmp/backing | cut -d' ' -f1)"
head -c 2097152 /dev/urandom >/tmp/new
dd if=/tmp/new of="/dev/$disk" bs=65536 seek=16 conv=fsync 2>/dev/null || fail "writing"
dd if=/tmp/backing bs=65536 skip=16 count=32 2>/dev/null | cmp - /tmp/new || fail "the backing file lacks what was written"

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
