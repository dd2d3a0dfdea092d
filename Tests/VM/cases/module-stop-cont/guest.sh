# SPDX-License-Identifier: Apache-2.0
# The virtual machine is halted in the middle of transfers and goes on: nothing is lost, nothing done twice.
usb_drivers
start_agent
ctl load vm1 --mode module
path=$(wait_our_device 0525 a4a5) || exit 1
disk=$(wait_disk "$path") || exit 1
path=$(wait_our_device 0525 a4ac) || exit 1
keyboard=$(wait_input "$path") || exit 1
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
equal "the disk" "$(disk_of "$(our_device 0525 a4a5)")" "$disk"
ctl type emu-keyboard a
eventually 10 were_typed "30 "
stop_keys
ctl unload vm1
