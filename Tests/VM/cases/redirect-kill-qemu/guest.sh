# SPDX-License-Identifier: Apache-2.0
# kill -9 of QEMU while the guest writes to its disk: the host is clean within 2 seconds, and when the virtual machine
# is back it gets its devices again without being asked for, before it runs. Over a reboot it keeps them.
modprobe xhci_pci
usb_drivers
boots=$(host boots) || exit 1
[ "$boots" != 1 ] || ctl load vm1 --mode redirect
note "boot $boots"
path=$(wait_device 0525 a4a5) || exit 1
disk=$(wait_disk "$path") || exit 1
dd if="/dev/$disk" of=/dev/null bs=65536 count=64 iflag=direct 2>/dev/null || fail "reading the disk"
path=$(wait_device 0525 a4a7) || exit 1
tty=$(wait_tty "$path") || exit 1
serial_echo "$tty" 65536
if [ "$boots" -lt 3 ]; then
    (while dd if=/dev/urandom of="/dev/$disk" bs=65536 count=250 oflag=direct; do :; done) >/dev/null 2>&1 8>&- &
    usleep 300000
    [ "$boots" != 1 ] || host kill_qemu
    reboot -f
    fail "outlived its end"
fi
ctl unload vm1
