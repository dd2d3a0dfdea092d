# SPDX-License-Identifier: Apache-2.0
# vusbd on the host is killed, and stopped, and started again, under a virtual machine that has its module loaded: the
# machine and its exporter go on, the devices go and come again.
usb_drivers
start_agent
ctl load vm1 --mode module
image_sum=$(host image_sum) || exit 1
for end in kill stop kill; do
    path=$(wait_our_device 0525 a4a5) || exit 1
    disk=$(wait_disk "$path") || exit 1
    equal "the bytes" "$(sha256sum <"/dev/$disk" | cut -d' ' -f1)" "$image_sum"
    path=$(wait_our_device 0525 a4a7) || exit 1
    tty=$(wait_tty "$path") || exit 1
    serial_echo "$tty" 65536
    note "vusbd: $end"
    host $end
    eventually 10 gone_from_us 0525 a4a5
    is_module_loaded || fail "the module went with vusbd"
    host start
done
path=$(wait_our_device 0525 a4a5) || exit 1
ctl unload vm1
no_module_loaded || fail "unload is done, and the module is still here"
