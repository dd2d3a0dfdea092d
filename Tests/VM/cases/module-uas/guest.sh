# SPDX-License-Identifier: Apache-2.0
# Bulk streams: a super-speed disk with UAS, taken by libusb and given back to the same kernel by the module. As many
# commands are on their way as the device has streams, and each one's data are its own.
modprobe -a uas sd_mod
stick=$(wait_device 46f4 0003) || exit 1
eventually 20 is_bound_to "$stick" 0 uas
eventually 20 test -b /dev/sda
start_vusbd --modules /vm/modules
wait_known "$stick" available
vusbctl guest add vm1 >/dev/null || fail "guest add"
vusbctl load vm1 --mode module || fail "load"
vusbctl attach "$stick" vm1 >/dev/null || fail "attach"

path=$(wait_our_device 46f4 0003) || exit 1
equal "its speed" "$(cat "/sys/bus/usb/devices/$path/speed")" 5000
disk=$(wait_disk "$path") || exit 1
equal "its driver" "$(driver_of "$path" 0)" uas
# 16 streams, less the two that the driver keeps for itself.
equal "its commands at once" "$(cat "/sys/block/$disk/device/queue_depth")" 14
# Small commands, so that one read or write is more of them than there are streams.
echo 4 >"/sys/block/$disk/queue/max_sectors_kb"
equal "its bytes" "$(dd if="/dev/$disk" bs=1M iflag=direct 2>/dev/null | sha256sum | cut -d' ' -f1)" "$(host image_sum)"
head -c 4194304 /dev/urandom >/tmp/new
dd if=/tmp/new of="/dev/$disk" bs=1M seek=4 oflag=direct 2>/dev/null || fail "writing"
equal "its bytes, as its host sees them" "$(sha256sum <"/dev/$disk" | cut -d' ' -f1)" "$(host image_sum)"
equal "errors and unlinked URBs" "$(hcd_port "usb3-${path#*-}" errors) $(hcd_port "usb3-${path#*-}" unlinked)" "0 0"
vusbctl unload vm1 || fail "unload"
no_module_loaded || fail "unload is done, and the module is still here"
eventually 20 is_bound_to "$stick" 0 uas
