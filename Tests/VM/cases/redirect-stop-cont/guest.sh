# SPDX-License-Identifier: Apache-2.0
# The virtual machine is halted in the middle of transfers and goes on: nothing is lost, nothing done twice. A device
# that comes meanwhile is there afterwards, one that goes is gone.
modprobe xhci_pci
usb_drivers
ctl load vm1 --mode redirect
path=$(wait_device 0525 a4a5) || exit 1
disk=$(wait_disk "$path") || exit 1
path=$(wait_device 0525 a4ac) || exit 1
keyboard=$(wait_input "$path") || exit 1
wait_device 0525 a4a0 >/dev/null
image_sum=$(host image_sum) || exit 1
read_keys "$keyboard"
for seconds in 0.2 8; do
    note "halted for $seconds s"
    (dd if="/dev/$disk" bs=65536 iflag=direct 2>/dev/null | sha256sum >/tmp/sum) 8>&- &
    reader=$!
    usleep 100000
    host pause $seconds
    ending $reader
    equal "the bytes" "$(cut -d' ' -f1 /tmp/sum)" "$image_sum"
done
# KEY_V KEY_U KEY_S KEY_B, each time.
eventually 10 were_typed "47 22 31 48 47 22 31 48 "
equal "the disk" "$(disk_of "$(usb_device 0525 a4a5)")" "$disk"

note "halted while it reads, it keeps what it reads from"
(dd if="/dev/$disk" bs=65536 iflag=direct 2>/dev/null | sha256sum >/tmp/sum) 8>&- &
reader=$!
usleep 100000
host refused_while_paused
ending $reader
equal "the bytes" "$(cut -d' ' -f1 /tmp/sum)" "$image_sum"

note "a device comes and one goes while it is halted"
is_away() { ! usb_device "$1" "$2"; }
(dd if="/dev/$disk" bs=65536 iflag=direct 2>/dev/null | sha256sum >/tmp/sum) 8>&- &
reader=$!
host exchange
ending $reader
equal "the bytes" "$(cut -d' ' -f1 /tmp/sum)" "$image_sum"
path=$(wait_device 0525 a4a7) || exit 1
tty=$(wait_tty "$path") || exit 1
serial_echo "$tty" 65536
eventually 10 is_away 0525 a4a0
stop_keys
ctl unload vm1
