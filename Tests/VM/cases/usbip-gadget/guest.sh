# SPDX-License-Identifier: Apache-2.0
# A gadget taken by libusb, served on loopback and imported by the same kernel: every test of usbtest that it supports, a
# thousand iterations of the unlink ones, VUSB_UNLINK_ROUNDS times over; and the emulated zero's isochronous and interrupt ones.
# The first of them are in a capture that the host looks into.
. /vm/gadget.sh
. /vm/usbip.sh
gadget_controllers 1
gadget_create zero 0525 a4a0 ZERO1
gadget_function zero SourceSink.0
gadget_plug zero 0
gadget=$(wait_device 0525 a4a0) || exit 1
start_vusbd --emulate zero
wait_known "$gadget" available
vusbctl guest add pc1 --listen tcp:3240 >/dev/null || fail "guest add"
vusbctl load pc1 >/dev/null || fail "load"
lend "$gadget" pc1 >/dev/null
lend emu-zero pc1 >/dev/null

note "captured"
modprobe -a virtio_blk vfat
tcpdump -i lo --immediate-mode -U -B 65536 -Z root -w /tmp/usbip.pcap 'tcp port 3240' 2>/tmp/tcpdump.log 8>&- &
capturer=$!
eventually 10 grep -q "listening on" /tmp/tcpdump.log
$as_client usbip list -r $server >/dev/null 2>&1 || fail "usbip list"
import 1-1
path=$(wait_vhci_device 0525 a4a0) || exit 1
refused "busy|used|exported|attach" usbip attach -r 127.0.0.1 -b 1-1
refused "exist|found|attach" usbip attach -r 127.0.0.1 -b 1-9
usbtest_alternate "$path" 0
usbtests "$path" "1 2 3 4 9 10 11 12 13 14 21 24" 1:2 2:2 3:2 4:2 9:2 10:2 11:20 12:20 13:2 14:8 21:8 24:4:512
rmmod usbtest
drop 1-1
eventually 10 no_vhci_device 0525 a4a0
import 1-2
path=$(wait_vhci_device 0525 a4a0) || exit 1
usbtest_alternate "$path" 1
usbtests "$path" "15 16" 15:2 16:2
usbtest_alternate "$path" 2
usbtests "$path" "25 26" 25:2 26:2
rmmod usbtest
drop 1-2
eventually 10 no_vhci_device 0525 a4a0
# What the capture ends with.
echo "this is all of it" | nc 127.0.0.1 3240
eventually 10 grep -q "this is all of it" /tmp/usbip.pcap
kill -INT $capturer
ending $capturer
grep -q "^0 packets dropped by kernel" /tmp/tcpdump.log || fail "tcpdump: $(cat /tmp/tcpdump.log)"
mount -t vfat /dev/vda /mnt || fail "mount"
cp /tmp/usbip.pcap /mnt/ || fail "cp: $(ls -l /tmp/usbip.pcap)"
umount /mnt
rm /tmp/usbip.pcap

note "the gadget"
import 1-1
path=$(wait_vhci_device 0525 a4a0) || exit 1
usbtest_alternate "$path" 0
usbtests "$path" "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 17 18 19 20 21 24 27 28 29" \
    0 1 2 3 4 5:20 6:20 7:20 8:20 9:20 10:20 11:1000 12:1000 13:20 14:200 17 18 19 20 21:200 24:1000:512 27:50:16384 28:50:16384 29
rounds=$(sed -n 's/.*vusb\.rounds=\([0-9]*\).*/\1/p' /proc/cmdline)
for round in $(seq 2 "$rounds"); do
    note "the unlink tests, round $round"
    usbtests "$path" "11 12 24" 11:1000 12:1000 24:1000:512
done
rmmod usbtest
drop 1-1
eventually 10 no_vhci_device 0525 a4a0

note "the emulated one: isochronous"
import 1-2
path=$(wait_vhci_device 0525 a4a0) || exit 1
usbtest_alternate "$path" 1
usbtests "$path" "15 16 22 23" 15:20 16:20 22:20 23:20
note "interrupt"
usbtest_alternate "$path" 2
usbtests "$path" "25 26" 25:20 26:20
rmmod usbtest
drop 1-2
vusbctl unload pc1 || fail "unload"
