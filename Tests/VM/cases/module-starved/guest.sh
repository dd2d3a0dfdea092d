# SPDX-License-Identifier: Apache-2.0
# Memory runs out while a disk of the module is being written: pages can only be freed by writing them to it, so it must
# write without asking for any. The guest writes more than it has memory for, with no free pages but the last reserve.
usb_drivers
start_agent
ctl load vm1 --mode module
path=$(wait_our_device 0525 a4a5) || exit 1
disk=$(wait_disk "$path") || exit 1
mount -t ext4 "/dev/$disk" /mnt || fail "mount"
# Let it be filled with dirty pages, and begin late.
echo 60 >/proc/sys/vm/dirty_ratio
echo 40 >/proc/sys/vm/dirty_background_ratio
free_kib=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)
note "$free_kib KiB are available"
mount -t tmpfs -o size=100% tmpfs /tmp
head -c $((free_kib * 512)) /dev/zero >/tmp/ballast || fail "the ballast doesn't fit"

for n in 1 2 3; do
    dd if=/dev/zero bs=65536 count=512 2>/dev/null | tr '\0' "$n" >/mnt/file.$n 8>&- &
    eval "writer_$n=$!"
done
for n in 1 2 3; do eval "ending \$writer_$n" || fail "writer $n"; done
sync
echo 3 >/proc/sys/vm/drop_caches
for n in 1 2 3; do
    equal "bytes of file $n" "$(tr -d "$n" </mnt/file.$n | wc -c) $(stat -c %s /mnt/file.$n)" "0 33554432"
done
umount /mnt || fail "umount"
ctl unload vm1
no_module_loaded || fail "unload is done, and the module is still here"
