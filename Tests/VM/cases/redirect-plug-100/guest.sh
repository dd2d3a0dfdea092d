# SPDX-License-Identifier: Apache-2.0
# A disk comes and is taken away a hundred times while the guest reads from it, and twenty times before it knows what it
# is; others come and go: vusbd has as many descriptors and threads as before, and QEMU no chardev and no device.
modprobe xhci_pci
usb_drivers
ctl load vm1 --mode redirect
path=$(wait_device 0525 a4a7) || exit 1
tty=$(wait_tty "$path") || exit 1

# read_disks: reads whatever disk there is, as long as there is one.
read_disks() {
    while [ ! -e /run/enough ]; do
        if disk=$(any_disk); then dd if="$disk" of=/dev/null bs=65536 iflag=direct; else usleep 10000; fi
    done
}
any_disk() { ls /dev/sd[a-z] 2>/dev/null | head -n 1 | grep .; }
read_disks >/dev/null 2>&1 8>&- &
reader=$!

host rounds 5
note "descriptors, threads, MiB of vusbd after 5 rounds: $(host remember)"
host rounds 95
note "after 100: $(host settled)"
host brief_rounds 20
note "after 20 brief ones: $(host settled)"
touch /run/enough
ending $reader
serial_echo "$tty" 65536

note "it works yet"
ctl attach emu-disk vm1
path=$(wait_device 0525 a4a5) || exit 1
disk=$(wait_disk "$path") || exit 1
dd if="/dev/$disk" of=/dev/null bs=65536 count=64 iflag=direct 2>/dev/null || fail "reading the disk"
ctl unload vm1
equal "what is left" "$(host leftovers)" ""
