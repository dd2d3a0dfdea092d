# SPDX-License-Identifier: Apache-2.0
# Mode usbip over vsock: vsock_loopback stands for a host and its machine. The guest is known by its CID at a shared listener,
# and vusb-attach is its client.
. /vm/usbip.sh
usb_drivers
modprobe -a vsock vsock_loopback || fail "no vsock"
head -c 1048576 /dev/urandom >/tmp/payload
truncate -s 16M /tmp/disk.img
mke2fs -q -F /tmp/disk.img || fail "no file system"
dd if=/tmp/payload of=/tmp/disk.img bs=65536 seek=200 conv=notrunc 2>/dev/null
# A loopback connection comes from CID 1.
cat >/tmp/vusb.yaml <<END
usbip:
  - listen: vsock:3240
guests:
  vm1: {clients: ["cid:1"]}
END
start_vusbd --no-host --config /tmp/vusb.yaml --emulate disk=/tmp/disk.img --emulate serial
vusbctl load vm1 2>/tmp/load || fail "load: $(cat /tmp/load)"
grep -q "modprobe vhci-hcd; vusb-attach vsock:2:3240 BUSID" /tmp/load || fail "no recipe: $(cat /tmp/load)"
for device in emu-disk emu-serial; do lend $device vm1 >/dev/null; done

note "list"
vusb-attach -l vsock:1:3240 >/tmp/list || fail "list"
cat /tmp/list
grep -q "^1-1	0525:a4a5	high" /tmp/list || fail "1-1 isn't listed"
equal "devices" "$(wc -l </tmp/list)" 2

note "disk"
vusb-attach vsock:1:3240 1-1 || fail "attach"
path=$(wait_vhci_device 0525 a4a5) || exit 1
disk=$(wait_disk "$path") || exit 1
equal "the image" "$(sha256sum <"/dev/$disk" | cut -d' ' -f1)" "$(sha256sum </tmp/disk.img | cut -d' ' -f1)"
dd if=/tmp/payload of="/dev/$disk" bs=65536 seek=64 oflag=direct 2>/dev/null || fail "writing"
dd if=/tmp/disk.img bs=65536 skip=64 count=16 2>/dev/null | cmp - /tmp/payload || fail "what was written isn't in the image"

note "exit codes"
# ends_with STATUS TEXT COMMAND…
ends_with() {
    ends_status=$1
    ends_text=$2
    shift 2
    "$@" >/tmp/ends 2>&1
    equal "status of $*" $? "$ends_status"
    grep -q "$ends_text" /tmp/ends || fail "$*: $(cat /tmp/ends)"
}
ends_with 4 "it's in use" vusb-attach vsock:1:3240 1-1
ends_with 1 "there is no such device" vusb-attach vsock:1:3240 1-7
ends_with 1 "Connection reset\|refused" vusb-attach vsock:1:99 1-1
ends_with 2 "no such kind of stream" vusb-attach udp:1:99 1-1
ends_with 2 "no numeric address" vusb-attach tcp:localhost:3240 1-1
ends_with 2 "usage" vusb-attach vsock:1:3240

note "serial adapter"
vusb-attach vsock:1:3240 1-2 || fail "attach"
tty=$(wait_tty "$(wait_vhci_device 0525 a4a7)") || exit 1
serial_echo "$tty" 262144

note "away again"
vusbctl detach emu-disk || fail "detach"
eventually 10 no_vhci_device 0525 a4a5
lend emu-disk vm1 >/dev/null
vusb-attach vsock:1:3240 1-1 || fail "attach again"
path=$(wait_vhci_device 0525 a4a5) || exit 1
wait_disk "$path" >/dev/null || exit 1
vusbctl unload vm1 || fail "unload"
eventually 10 no_vhci_device 0525 a4a5
eventually 10 no_vhci_device 0525 a4a7
