# SPDX-License-Identifier: Apache-2.0
# Devices that the kernel and QEMU make, lent to a guest with nodes and used by programs on libusb: Gadget Zero at high
# and at super speed, mass storage by the bulk-only transport and by UAS with its bulk streams, a serial adapter, a
# keyboard.
. /vm/gadget.sh
modprobe cuse
head -c 4194304 /dev/urandom >/tmp/backing
# The boot keyboard of the HID specification, without its LEDs: a byte of modifiers, a constant one, six of keys.
printf '\x05\x01\x09\x06\xa1\x01\x05\x07\x19\xe0\x29\xe7\x15\x00\x25\x01\x75\x01\x95\x08\x81\x02\x95\x01\x75\x08\x81\x01' >/tmp/report
printf '\x95\x06\x75\x08\x15\x00\x25\x65\x05\x07\x19\x00\x29\x65\x81\x00\xc0' >>/tmp/report
gadget_controllers 5 super
gadget_create zero 0525 a4a0 ZERO
gadget_function zero SourceSink.0 pattern=1
gadget_create fast 0525 a4a1 FAST super-speed
gadget_function fast SourceSink.0 pattern=1
gadget_create disk 1d6b 0104 DISK super-speed
gadget_function disk mass_storage.0 lun.0/removable=1 lun.0/file=/tmp/backing
gadget_create serial 0525 a4a7 SERIAL
gadget_function serial acm.0
gadget_create keyboard 0525 a4ac KEYBOARD
gadget_function keyboard hid.0 protocol=1 subclass=1 report_length=8 report_desc=@/tmp/report
n=0
for name in zero fast disk serial keyboard; do
    gadget_plug $name $n
    n=$((n + 1))
done
devices=
for numbers in 0525:a4a0 0525:a4a1 1d6b:0104 0525:a4a7 0525:a4ac 46f4:0003; do
    device=$(wait_device ${numbers%:*} ${numbers#*:}) || exit 1
    devices="$devices $device"
done
lsusb -v -d 0525:a4a1 2>/dev/null | without_numbers >/tmp/lsusb.native
usbhid-dump -m 0525:a4ac | without_numbers >/tmp/report.native
[ -s /tmp/lsusb.native ] && [ -s /tmp/report.native ] || fail "there is nothing to compare"

start_vusbd
all_known() { api devices | jq -e 'map(select(.state == "available")) | length == 6'; }
eventually 20 all_known
# They are several words.
# shellcheck disable=SC2046
vusbctl guest add web1 --nodes $(printf -- '--device %s ' $devices) >/dev/null || fail "guest add"
vusbctl load web1 || fail "load"
in_view() { vusbctl run --guest web1 -- "$@"; }
in_view lsusb -t >/tmp/tree || fail "lsusb -t"
cat /tmp/tree
equal "devices at super speed" "$(grep -c 5000M /tmp/tree)" 3
in_view lsusb -v -d 0525:a4a1 2>/dev/null | without_numbers >/tmp/lsusb.shown
diff /tmp/lsusb.native /tmp/lsusb.shown || fail "lsusb -v of a super-speed device differs"

note "source and sink, at high and at super speed"
# The gadget halts the endpoint where what comes isn't the pattern.
in_view lu-zero 0525:a4a0 96 512 || fail "lu-zero at high speed"
in_view lu-zero 0525:a4a1 96 1024 || fail "lu-zero at super speed"

note "mass storage"
in_view lu-disk 1d6b:0104 read | cmp - /tmp/backing || fail "what was read differs from the backing file"
head -c 1048576 /dev/urandom >/tmp/new
in_view lu-disk 1d6b:0104 write 1000 </tmp/new || fail "lu-disk write"
dd if=/tmp/backing bs=512 skip=1000 count=2048 2>/dev/null | cmp - /tmp/new ||
    fail "the backing file lacks what was written"

note "mass storage with UAS, each command with a stream of its own"
in_view lu-uas 46f4:0003 read 0 16384 >/tmp/uas 2>/tmp/uas.said || fail "lu-uas read: $(cat /tmp/uas.said)"
cat /tmp/uas.said
# Not at the real node before: this kernel complains of itself when a device's streams are allotted a second time.
grep -q '^16 streams' /tmp/uas.said && grep -q '^QEMU' /tmp/uas.said || fail "it isn't QEMU's disk with its streams"
equal "its bytes" "$(sha256sum </tmp/uas | cut -d' ' -f1)" "$(host image_sum)"
dd if=/tmp/new of=/tmp/uas bs=512 seek=3000 conv=notrunc 2>/dev/null
in_view lu-uas 46f4:0003 write 3000 </tmp/new || fail "lu-uas write"
equal "its bytes, as QEMU has them" "$(host image_sum)" "$(sha256sum </tmp/uas | cut -d' ' -f1)"

note "a serial adapter"
stty -F /dev/ttyGS0 raw -echo -echoe -echok || fail "stty of the gadget's side"
head -c 200000 /dev/urandom >/tmp/there
head -c 200000 /dev/urandom >/tmp/back
head -c 200000 </dev/ttyGS0 >/tmp/there.got &
reader=$!
cat /tmp/back >/dev/ttyGS0 &
writer=$!
in_view lu-tty 0525:a4a7 200000 </tmp/there >/tmp/back.got || fail "lu-tty"
ending $reader || fail "reading the gadget's side"
ending $writer || fail "writing the gadget's side"
cmp /tmp/there /tmp/there.got || fail "the gadget got something else"
cmp /tmp/back /tmp/back.got || fail "the program got something else"

note "a keyboard"
in_view usbhid-dump -m 0525:a4ac | without_numbers >/tmp/report.shown
diff /tmp/report.native /tmp/report.shown || fail "its report descriptor differs"
keyboard=${devices% *}
keyboard=${keyboard##* }
vusbctl run --guest web1 -- usbhid-dump -m 0525:a4ac -e stream -t 0 >/tmp/dump 2>/tmp/dump.error 8>&- &
dump=$!
eventually 10 in_flight "$keyboard" 1
# 19: the usage of V in the keyboard's page.
printf '\x00\x00\x19\x00\x00\x00\x00\x00' >/dev/hidg0 || fail "pressing a key"
eventually 10 grep -q "00 00 19 00" /tmp/dump
kill $dump
wait $dump
