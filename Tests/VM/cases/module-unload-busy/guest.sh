# SPDX-License-Identifier: Apache-2.0
# unload waits for those in the guest who use a device, and names them: a mounted disk, an open tty. With them gone it
# goes.
usb_drivers
start_agent
ctl load vm1 --mode module
path=$(wait_our_device 0525 a4a5) || exit 1
disk=$(wait_disk "$path") || exit 1
path=$(wait_our_device 0525 a4a7) || exit 1
tty=$(wait_tty "$path") || exit 1

note "a mounted disk"
mount "/dev/$disk" /mnt || fail "mount"
refused_by_host '/mnt' unload vm1 --deadline 1s
is_module_loaded || fail "the module was removed all the same"
cp /mnt/payload.bin /tmp/ || fail "the disk doesn't work after the refusal"
head -c 100000 /dev/urandom >/mnt/more || fail "the disk can't be written after the refusal"
umount /mnt || fail "umount"

note "an open tty"
sleep 1000 <"$tty" 8>&- &
holder=$!
refused_by_host "${tty##*/}" unload vm1 --deadline 1s
serial_echo "$tty" 1000
kill $holder
wait $holder

note "nobody"
ctl unload vm1
no_module_loaded || fail "unload is done, and the module is still here"

note "a module that somebody else loaded is used, and isn't ours to remove; nor is the mount"
mount -t virtiofs vusb /vusb || fail "mount"
for module in vusb_channel vusb_hcd; do
    insmod "/vm/modules/$(uname -r)/$module.ko" || fail "insmod $module"
done
ctl load vm1 --mode module
wait_our_device 0525 a4a5 >/dev/null
ctl unload vm1
is_module_loaded || fail "a module that somebody else loaded was removed"
eventually 10 gone_from_us 0525 a4a5
rmmod vusb_hcd || fail "rmmod"
rmmod vusb_channel || fail "rmmod"
umount /vusb || fail "the mount wasn't left alone"
