# SPDX-License-Identifier: Apache-2.0
# kill -9 of QEMU while the guest writes to its disk: the host is clean within 2 seconds, and when the virtual machine
# is back it gets module and devices again without being asked for.
usb_drivers
start_agent
if [ "$(host boots)" = 1 ]; then
    ctl load vm1 --mode module
    path=$(wait_our_device 0525 a4a5) || exit 1
    disk=$(wait_disk "$path") || exit 1
    (while dd if=/dev/urandom of="/dev/$disk" bs=65536 count=1000 oflag=direct; do :; done) >/dev/null 2>&1 8>&- &
    usleep 300000
    host kill_qemu
    fail "outlived kill -9"
fi

note "after the second boot"
path=$(wait_our_device 0525 a4a5) || exit 1
disk=$(wait_disk "$path") || exit 1
sha256sum <"/dev/$disk" >/dev/null || fail "reading the disk"
path=$(wait_our_device 0525 a4a7) || exit 1
tty=$(wait_tty "$path") || exit 1
serial_echo "$tty" 65536
ctl unload vm1
no_module_loaded || fail "unload is done, and the module is still here"
