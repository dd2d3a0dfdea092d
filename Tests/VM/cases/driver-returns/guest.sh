# SPDX-License-Identifier: Apache-2.0
# The host's own driver has the device again after each way of giving it back: detach, unload, vusbd's stop.
modprobe -a usb_storage sd_mod vfat
stick=$(wait_device 46f4 0001) || exit 1
payload_sum=$(host payload_sum) || exit 1
mkdir -p /mnt

# The host's kernel can use the disk, and the file in it is whole.
host_has_it() {
    eventually 20 test -b /dev/sda
    equal "driver after $1" "$(driver_of "$stick" 0)" usb-storage
    mount -o ro /dev/sda /mnt || fail "/dev/sda can't be mounted after $1"
    equal "the file after $1" "$(sha256sum </mnt/payload.bin | cut -d' ' -f1)" "$payload_sum"
    umount /mnt
}

host_has_it "boot"
start_vusbd
wait_known "$stick" available
make_guest web1

for round in 1 2 3; do
    tree=$(lend "$stick" web1) || exit 1
    eventually 10 test ! -b /dev/sda
    bot "$tree/ep/81" "$tree/ep/02" capacity >/dev/null || fail "the guest can't use it in round $round"
    vusbctl detach "$stick" >/dev/null || fail "detach in round $round"
    host_has_it "detach $round"
done

lend "$stick" web1 >/dev/null
vusbctl unload web1 >/dev/null || fail "unload"
host_has_it "unload"

vusbctl load web1 >/dev/null || fail "load"
attachment web1 "$stick" >/dev/null || lend "$stick" web1 >/dev/null
stop_vusbd
host_has_it "vusbd's stop"
