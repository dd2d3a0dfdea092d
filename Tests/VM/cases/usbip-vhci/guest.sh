# SPDX-License-Identifier: Apache-2.0
# Mode usbip with the kernel's own client and Debian's usbip: listed, imported, used by the kernel's drivers, dropped a hundred
# times; twice is refused, and a device isn't taken from a client that works with it.
. /vm/usbip.sh
usb_drivers
head -c 1048576 /dev/urandom >/tmp/payload
truncate -s 16M /tmp/disk.img
mkfs.vfat -n VUSB /tmp/disk.img >/dev/null 2>&1 || mke2fs -q -F /tmp/disk.img || fail "no file system"
start_vusbd --no-host --emulate disk=/tmp/disk.img --emulate serial --emulate keyboard --emulate "zero,pattern=mod63"
vusbctl guest add pc1 --listen tcp:3240 >/dev/null || fail "guest add"
vusbctl load pc1 || fail "load"
n=1
for device in emu-disk emu-serial emu-keyboard emu-zero; do
    equal "its path" "$(lend $device pc1)" "/vusb/guests/pc1/devices/1-$n"
    n=$((n + 1))
done

note "list"
usbip list -r 127.0.0.1 >/tmp/list 2>&1 || fail "usbip list: $(cat /tmp/list)"
cat /tmp/list
for n in 1 2 3 4; do grep -q " 1-$n: .*0525:a4" /tmp/list || fail "1-$n isn't listed"; done

note "disk"
import 1-1
path=$(wait_vhci_device 0525 a4a5) || exit 1
equal "its driver" "$(driver_of "$path" 0)" usb-storage
disk=$(wait_disk "$path") || exit 1
equal "its state" "$(api guests | jq -r '.[].attachments[0].state')" imported
usbip port
[ -n "$(port_of 1-1)" ] || fail "usbip port doesn't know it"
refused "busy|used|exported|attach" usbip attach -r 127.0.0.1 -b 1-1
equal "the image" "$(sha256sum <"/dev/$disk" | cut -d' ' -f1)" "$(sha256sum </tmp/disk.img | cut -d' ' -f1)"
dd if=/tmp/payload of="/dev/$disk" bs=65536 seek=64 oflag=direct 2>/dev/null || fail "writing"
dd if=/tmp/disk.img bs=65536 skip=64 count=16 2>/dev/null | cmp - /tmp/payload || fail "what was written isn't in the image"

note "a client that works with it keeps it"
(while dd if="/dev/$disk" of=/dev/null bs=65536 iflag=direct; do :; done) >/dev/null 2>/tmp/dd.errors 8>&- &
reader=$!
refused "works with it" vusbctl detach emu-disk --deadline 1s
kill $reader
wait $reader
! grep -i error /tmp/dd.errors || fail "the reader saw an error"
vusbctl detach emu-disk || fail "detach"
eventually 10 no_vhci_device 0525 a4a5
lend emu-disk pc1 >/dev/null

note "serial adapter"
import 1-2
tty=$(wait_tty "$(wait_vhci_device 0525 a4a7)") || exit 1
serial_echo "$tty" 1048576

note "keyboard"
import 1-3
keyboard=$(wait_input "$(wait_vhci_device 0525 a4ac)") || exit 1
read_keys "$keyboard"
vusbctl type emu-keyboard vusb || fail "type"
# KEY_V KEY_U KEY_S KEY_B
eventually 10 were_typed "47 22 31 48 "
stop_keys
# Its driver polls it all the time: that's no use.
vusbctl detach emu-keyboard || fail "detach of a keyboard"
eventually 10 no_vhci_device 0525 a4ac

note "dropped a hundred times"
# has_read KIB: of the disk that there is now.
has_read() {
    read -r _ _ sectors _ <"/sys/block/$disk/stat" && [ "$sectors" -ge $((2 * $1)) ]
}
descriptors() { ls "/proc/$vusbd_pid/fd" | wc -l; }
# detach PATH: what usbip detach does, without a look into the list of all vendors.
detach() {
    vhci_port "$1" >/sys/devices/platform/vhci_hcd.0/detach || fail "detach of $1"
}
before=$(descriptors)
for n in $(seq 100); do
    import 1-1
    eventually 30 vhci_device 0525 a4a5
    path=$(vhci_device 0525 a4a5)
    # Now and then before its driver knows it, else while it's read.
    if [ $((n % 4)) -ne 0 ]; then
        disk=$(wait_disk "$path") || exit 1
        dd if="/dev/$disk" of=/dev/null bs=65536 iflag=direct 2>/dev/null 8>&- &
        reader=$!
        # More than the driver and the kernel's look for partitions read.
        eventually 10 has_read 512
        detach "$path"
        ending $reader
    else
        detach "$path"
    fi
    eventually 10 no_vhci_device 0525 a4a5
    eventually 10 export_is 1-1 free
done
has_as_many_descriptors() { [ "$(descriptors)" -le "$before" ]; }
eventually 10 has_as_many_descriptors

note "unload ends all"
drop 1-2
vusbctl unload pc1 || fail "unload"
refused "." usbip list -r 127.0.0.1
