# SPDX-License-Identifier: Apache-2.0
# Two machines: vusbd in this one takes its kernel's devices through libusb and redirects them over forwarded streams
# into a second one's xHCI, whose kernel tests and uses them: gadgets, and a super-speed disk with UAS, whose commands go
# by bulk streams. When such a stream is cut the device is another guest's at once.
. /vm/gadget.sh
. /vm/two.sh

if [ "$role" = second ]; then
    modprobe -a xhci_pci uas usb_storage sd_mod usbtest
    eventually 120 with_serial ZERO
    path=$(with_serial ZERO) || exit 1
    eventually 30 is_bound_to "$path" 0 usbtest
    # Without 10, 11, 12 and 24, which fail at qemu-xhci with Debian's usbredirect before the same gadget, too.
    usbtests "$path" "0 1 2 3 4 5 6 7 8 9 13 14 17 18 19 20 21 27 28 29" \
        0 1 2 3 4 5:10 6:10 7:10 8:10 9:10 13:5 14:20 17 18 19 20 21:20 27:20:4096 28:20:4096 29
    echo "SECOND has tested"
    eventually 60 with_serial DISK
    disk=$(wait_disk "$(with_serial DISK)") || exit 1
    echo "SECOND disk $(sha256sum <"/dev/$disk" | cut -d' ' -f1)"
    dd if=/dev/zero of="/dev/$disk" bs=4096 count=1 conv=fsync 2>/dev/null || fail "writing"
    echo "SECOND has written"
    is_away() { ! with_serial "$1"; }
    eventually 60 is_away DISK
    echo "SECOND sees the disk gone"
    path=$(wait_device 46f4 0003) || exit 1
    disk=$(wait_disk "$path") || exit 1
    equal "its driver" "$(driver_of "$path" 0)" uas
    # 16 streams, less the two that the driver keeps for itself.
    equal "its commands at once" "$(cat "/sys/block/$disk/device/queue_depth")" 14
    # Small commands, so that one read or write is more of them than there are streams.
    echo 4 >"/sys/block/$disk/queue/max_sectors_kb"
    echo "SECOND uas $(dd if="/dev/$disk" bs=1M iflag=direct 2>/dev/null | sha256sum | cut -d' ' -f1)"
    head -c 1048576 /dev/urandom >/tmp/new
    dd if=/tmp/new of="/dev/$disk" bs=1M seek=2 oflag=direct 2>/dev/null || fail "writing to the disk with UAS"
    echo "SECOND uas-written $(sha256sum <"/dev/$disk" | cut -d' ' -f1)"
    exit 0
fi

gadget_controllers 2
head -c 8388608 /dev/urandom >/tmp/image
sum=$(sha256sum </tmp/image | cut -d' ' -f1)
gadget_create disk 0525 a4a5 DISK
gadget_function disk mass_storage.0 lun.0/removable=1 lun.0/file=/tmp/image
gadget_create zero 0525 a4a0 ZERO
gadget_function zero SourceSink.0
gadget_plug zero 0
gadget_plug disk 1
eventually 20 with_serial ZERO
eventually 20 with_serial DISK
start_for_second
zero=$(with_serial ZERO) disk=$(with_serial DISK)
uas=$(wait_device 46f4 0003) || exit 1
for device in "$zero" "$disk" "$uas"; do wait_known "$device"; done

lend_to_second 1 "$zero"
host said 120 "SECOND has tested"
lend_to_second 2 "$disk"
equal "the disk" "$(host said 60 'SECOND disk' | cut -d' ' -f3)" "$sum"
host said 30 "SECOND has written"
vusbctl detach "$disk" || fail "detach"
host said 60 "SECOND sees the disk gone"
lend_to_second 3 "$uas"
equal "the disk with UAS" "$(host said 120 'SECOND uas' | cut -d' ' -f3)" "$(host image_sum)"
uas_sum=$(host said 60 "SECOND uas-written" | cut -d' ' -f3)

# Whoever is at its other end is as dead as can be: nothing comes of it any more, and nobody says so.
note "the stream is cut"
make_guest web1
kill $bridge_pid
eventually 5 had_event detached device "$uas"
vusbctl switch "$uas" web1 || fail "it isn't to be had after the cut"
# GET_DESCRIPTOR(DEVICE): 80 06 00 01 00 00 12 00
urb control "$(attachment web1 "$uas")/ep/00" 8006000100001200 18 >/tmp/device || fail "it doesn't work after the cut"
vusbctl unload web1 || fail "unload web1"
vusbctl unload second --cancel || fail "unload"
equal "what was written with UAS" "$(host image_sum)" "$uas_sum"
equal "what was written" "$(head -c 4096 /tmp/image | tr -d '\0' | wc -c)" 0
