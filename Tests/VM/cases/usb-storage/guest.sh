# SPDX-License-Identifier: Apache-2.0
# QEMU's usb-storage: the bytes of a FAT image and of a file in it, read through endpoint files, equal the host's;
# sectors written through them reach the image.
modprobe -a usb_storage sd_mod vfat
stick=$(wait_device 46f4 0001) || exit 1
eventually 20 test -b /dev/sda
image_sum=$(host image_sum) || exit 1
payload_sum=$(host payload_sum) || exit 1

start_vusbd
wait_known "$stick" available
make_guest web1
tree=$(lend "$stick" web1) || exit 1
equal "its idVendor" "$(cat "$tree/idVendor")" 46f4
equal "its serial number" "$(cat "$tree/serial")" STICK1
cmp "$tree/descriptors" "/sys/bus/usb/devices/$stick/descriptors" || fail "descriptors differ from sysfs"
[ ! -b /dev/sda ] || fail "the kernel's driver still has the disk"

note "reading"
equal "sectors" "$(bot "$tree/ep/81" "$tree/ep/02" capacity)" 16384
bot "$tree/ep/81" "$tree/ep/02" read 0 16384 >/tmp/copy.img || fail "bot read"
equal "the image" "$(sha256sum </tmp/copy.img | cut -d' ' -f1)" "$image_sum"
mkdir -p /mnt
mount -o ro,loop /tmp/copy.img /mnt || fail "the copy can't be mounted"
equal "the file in it" "$(sha256sum </mnt/payload.bin | cut -d' ' -f1)" "$payload_sum"
umount /mnt

note "writing"
yes vusb | tr -d '\n' | head -c 4096 | bot "$tree/ep/81" "$tree/ep/02" write 16376 || fail "bot write"
equal "read back" "$(bot "$tree/ep/81" "$tree/ep/02" read 16376 8 | head -c 8)" vusbvusb

note "giving it back"
vusbctl detach "$stick" >/dev/null || fail "detach"
eventually 20 test -b /dev/sda
equal "the kernel's driver" "$(driver_of "$stick" 0)" usb-storage
