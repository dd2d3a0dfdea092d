# SPDX-License-Identifier: Apache-2.0
# vusbd is killed, and stopped, and started again, under a virtual machine that has its devices: they go and come again,
# and QEMU has nothing of the old ones.
modprobe xhci_pci
usb_drivers
ctl load vm1 --mode redirect
image_sum=$(host image_sum) || exit 1
is_away() { ! usb_device "$1" "$2"; }
for end in kill stop kill; do
    path=$(wait_device 0525 a4a5) || exit 1
    disk=$(wait_disk "$path") || exit 1
    equal "the bytes" "$(sha256sum <"/dev/$disk" | cut -d' ' -f1)" "$image_sum"
    path=$(wait_device 0525 a4a7) || exit 1
    tty=$(wait_tty "$path") || exit 1
    serial_echo "$tty" 65536
    equal "chardevs and devices at QEMU" "$(host plugged)" 4
    note "vusbd: $end"
    (while dd if="/dev/$disk" of=/dev/null bs=65536 iflag=direct; do :; done) >/dev/null 2>&1 8>&- &
    reader=$!
    usleep 200000
    host $end
    ending $reader
    eventually 10 is_away 0525 a4a5
    eventually 10 is_away 0525 a4a7
    [ "$end" = kill ] || equal "chardevs and devices after a stop" "$(host plugged)" 0
    host start
done
path=$(wait_device 0525 a4a5) || exit 1
disk=$(wait_disk "$path") || exit 1
wait_device 0525 a4a7 >/dev/null
ctl unload vm1
equal "chardevs and devices at the end" "$(host plugged)" 0
