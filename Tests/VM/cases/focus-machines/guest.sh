# SPDX-License-Identifier: Apache-2.0
# A desk of two virtual machines: keyboard and disk go from one to the other together, by `vusbctl focus` and by the hot key
# on that keyboard, of which neither kernel sees a key. A disk that is written to keeps both where they are.
. /vm/two.sh
modprobe xhci_pci
usb_drivers
modprobe -a usbhid hid_generic evdev

# have_desk SECONDS: waits for keyboard and disk, and listens to the keys.
have_desk() {
    eventually "$1" usb_device 0525 a4ac
    eventually "$1" usb_device 0525 a4a5
    input=$(wait_input "$(usb_device 0525 a4ac)") || exit 1
    disk=$(wait_disk "$(usb_device 0525 a4a5)") || exit 1
    read_keys "$input"
}
# A reader of an event node whose device has gone ends by itself.
keys_ended() { ending "$keys_reader" || true; }
has_no_desk() { ! usb_device 0525 a4ac >/dev/null && ! usb_device 0525 a4a5 >/dev/null; }

if [ "$role" = second ]; then
    have_desk 120
    echo "SECOND has the desk"
    # KEY_B
    eventually 60 were_typed "48 "
    echo "SECOND saw b"
    eventually 60 has_no_desk
    keys_ended
    were_typed "48 " || fail "the second one saw more than b"
    echo "SECOND lost the desk"
    sleep 1000
fi

ctl load vm1
ctl load vm2
ctl attach emu-disk vm1
# Nothing that is typed here means this machine's console.
ctl attach emu-keyboard vm1
have_desk 60

note "a disk that is written to keeps both here"
head -c 33554432 /dev/urandom >/tmp/one
echo 1048576 >/proc/sys/vm/dirty_background_bytes
echo 4194304 >/proc/sys/vm/dirty_bytes
mount "/dev/$disk" /mnt || fail "mount"
(dd if=/tmp/one of=/mnt/one bs=1M conv=fsync 2>/tmp/dd.error && umount /mnt && touch /tmp/one.written) 8>&- &
writer=$!
host written emu-disk 4194304
refused_by_host "its machine works with it" focus vm2 --deadline 300ms
[ ! -e /tmp/one.written ] || fail "all was written before the focus was refused"
host ctl type emu-keyboard a
eventually 20 were_typed "30 "
ending $writer || fail "the writer: $(cat /tmp/dd.error)"

note "the hot key"
host ctl type emu-keyboard --keys scrolllock,scrolllock,2
host said 60 "SECOND has the desk"
eventually 20 has_no_desk
keys_ended
were_typed "30 " || fail "the first one saw more than a"
host ctl type emu-keyboard b
host said 60 "SECOND saw b"

note "and back, by the hot key there"
host ctl type emu-keyboard --keys scrolllock,scrolllock,1
host said 60 "SECOND lost the desk"
have_desk 60
host ctl type emu-keyboard c
eventually 20 were_typed "46 "
stop_keys
mount -o ro "/dev/$disk" /mnt || fail "mount"
cmp /tmp/one /mnt/one || fail "the file differs"
umount /mnt
took=$(host took) || exit 1
note "the hot key took $took"
ctl unload vm1
ctl unload vm2
