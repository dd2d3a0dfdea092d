# SPDX-License-Identifier: Apache-2.0
# Two virtual machines and one disk: it isn't taken from the first in the middle of a write; a switch that waits gives it
# to the second when all is written and at rest, whose kernel finds every byte. When the second is killed while it has
# three devices, the first, which comes next in the claim, has them within two seconds.
. /vm/two.sh
modprobe xhci_pci
usb_drivers

sum_of() { sha256sum <"$1" | cut -d' ' -f1; }
if [ "$role" = second ]; then
    eventually 120 usb_device 0525 a4a5
    disk=$(wait_disk "$(usb_device 0525 a4a5)") || exit 1
    mount -o ro "/dev/$disk" /mnt || fail "mount"
    echo "SECOND one $(sum_of /mnt/one)"
    echo "SECOND two $(sum_of /mnt/two)"
    umount /mnt
    eventually 60 usb_device 0525 a4a7
    eventually 60 usb_device 0525 a4ac
    echo "SECOND has three"
    # Until it's killed.
    sleep 1000
fi

ctl load vm1
ctl load vm2
ctl attach emu-disk vm1
path=$(wait_device 0525 a4a5) || exit 1
disk=$(wait_disk "$path") || exit 1
for name in one two; do head -c 67108864 /dev/urandom >/tmp/$name; done

# The disk is written to all the time, not only at the end.
echo 1048576 >/proc/sys/vm/dirty_background_bytes
echo 4194304 >/proc/sys/vm/dirty_bytes
# begin_writing NAME
begin_writing() {
    mount "/dev/$disk" /mnt || fail "mount"
    (dd if="/tmp/$1" of="/mnt/$1" bs=1M conv=fsync 2>/tmp/dd.error && umount /mnt && touch "/tmp/$1.written") 8>&- &
    writer=$!
}

note "in the middle of a write it isn't taken"
begin_writing one
host written emu-disk 8388608
refused_by_host "its machine works with it" switch emu-disk vm2 --deadline 500ms
[ ! -e /tmp/one.written ] || fail "all was written before the switch was refused"
ending $writer || fail "the writer: $(cat /tmp/dd.error)"

note "a switch that waits has it when all is written"
begin_writing two
host written emu-disk 80000000
host begin_switch
ending $writer || fail "the writer: $(cat /tmp/dd.error)"
host end_switch
[ -e /tmp/two.written ] || fail "the disk went before all was written"
for name in one two; do
    equal "file $name at the second one" "$(host said 60 "SECOND $name" | cut -d' ' -f3)" "$(sum_of /tmp/$name)"
done

note "the second one is killed with three devices"
ctl claim add emulated --match source=emulation --guest vm2 --guest vm1
host three vm2 20
host said 60 "SECOND has three"
taken=$(host kill_second) || exit 1
note "they were the first one's after $taken ms"
[ "$taken" -lt 2000 ] || fail "they were the first one's only after $taken ms"
for product in a4a5 a4a7 a4ac; do wait_device 0525 $product >/dev/null; done
disk=$(wait_disk "$(usb_device 0525 a4a5)") || exit 1
mount -o ro "/dev/$disk" /mnt || fail "mount"
for name in one two; do equal "file $name" "$(sum_of /mnt/$name)" "$(sum_of /tmp/$name)"; done
umount /mnt
ctl unload vm1
