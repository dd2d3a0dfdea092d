# SPDX-License-Identifier: Apache-2.0
# What can't be had: a disk that the host itself has mounted, an interface that another program holds, a node that is
# missing. Each attach is refused, names the device, and leaves it and the others as they were.
stick=$(wait_device 46f4 0001) || exit 1
keyboard=$(wait_device 0627 0001) || exit 1
node=$(usb_node "$stick")
start_vusbd
wait_known "$stick" available
wait_known "$keyboard" available
make_guest web1

# The guest gets the other device, and the stick is where it was.
others_work() {
    lend "$keyboard" web1 >/dev/null
    vusbctl detach "$keyboard" >/dev/null || fail "detach of the keyboard"
    wait_known "$stick" available
    [ -z "$(attachment web1 "$stick")" ] || fail "the stick is attached"
}

note "the host has it mounted"
modprobe -a usb_storage sd_mod vfat
mkdir -p /mnt
eventually 20 test -b /dev/sda
mount -o ro /dev/sda /mnt || fail "/dev/sda can't be mounted"
refused "$stick.*/mnt" vusbctl attach "$stick" web1
others_work
equal "the file on the mounted disk" "$(sha256sum </mnt/payload.bin | cut -d' ' -f1)" "$(host payload_sum)"
umount /mnt
lend "$stick" web1 >/dev/null
vusbctl detach "$stick" >/dev/null || fail "detach after the mount"
rmmod uas 2>/dev/null
rmmod usb_storage || fail "rmmod"

note "another program holds the interface"
claim "$node" 0 >/tmp/claim 2>&1 8>&- &
holder=$!
eventually 10 grep -q claimed /tmp/claim
refused "$stick" vusbctl attach "$stick" web1
others_work
kill $holder
wait $holder
lend "$stick" web1 >/dev/null
vusbctl detach "$stick" >/dev/null || fail "detach after the holder ended"

note "the node is missing"
numbers=$(tr : ' ' <"/sys/bus/usb/devices/$stick/dev")
rm "$node" || fail "rm $node"
refused "$stick" vusbctl attach "$stick" web1
others_work
mknod "$node" c $numbers || fail "mknod $node c $numbers"
lend "$stick" web1 >/dev/null
vusbctl detach "$stick" >/dev/null || fail "detach after the node's return"
