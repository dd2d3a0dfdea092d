# SPDX-License-Identifier: Apache-2.0
# The kernel's own server, usbip-host with Debian's usbipd, lends gadgets of the same kernel; vusbd imports them and lends
# them to a guest, which reads them by endpoint files. The server goes and comes back: so do the devices.
. /vm/gadget.sh
modprobe -a usb_storage sd_mod usbip_host
mkdir -p /var/run
head -c 4194304 /dev/urandom >/tmp/backing
gadget_controllers 2
gadget_create disk 1d6b 0104 DISK1
gadget_function disk mass_storage.0 lun.0/removable=1 lun.0/file=/tmp/backing
gadget_create zero 0525 a4a0 ZERO1
gadget_function zero SourceSink.0 pattern=1
gadget_plug disk 0
gadget_plug zero 1
disk=$(wait_device 1d6b 0104) || exit 1
zero=$(wait_device 0525 a4a0) || exit 1

start_usbipd() { usbipd -D -P/run/usbipd.pid || fail "usbipd"; }
# exported BUSID STATUS: how the kernel says that it is: 1 available, 2 used.
exported() { [ "$(cat "/sys/bus/usb/devices/$1/usbip_status")" = "$2" ]; }
# import_is ID STATE: how vusbd says that it is.
import_is() { vusbctl imports --json | jq -e --arg id "$1" --arg state "$2" '.[] | select(.id == $id) | .state == $state'; }
not_attached() { ! attachment web1 "$1"; }
# endpoints TREE: the gadget numbers its endpoints by itself. Sets in and out.
endpoints() {
    for file in "$1"/ep/*; do
        case ${file##*/} in
            00) ;;
            8*) in=$file ;;
            *) out=$file ;;
        esac
    done
}
disk_agrees() {
    eventually 30 attachment web1 ip-disk
    endpoints "$(attachment web1 ip-disk)"
    equal "sectors" "$(bot "$in" "$out" capacity)" 8192
    bot "$in" "$out" read 0 8192 >/tmp/read || fail "read"
    equal "the disk's checksum" "$(sha256sum </tmp/read)" "$(sha256sum </tmp/backing)"
}

start_usbipd
for id in "$disk" "$zero"; do
    usbip bind -b "$id" >/tmp/bind.log 2>&1 || fail "usbip bind $id: $(cat /tmp/bind.log)"
    eventually 10 exported "$id" 1
done
start_vusbd --no-host
vusbctl guest add web1 --device 1d6b:0104 --device 0525:a4a0 >/dev/null || fail "guest add"
vusbctl load web1 >/dev/null || fail "load"

note "what the server has"
vusbctl import 127.0.0.1 >/tmp/offers || fail "the list"
grep -q "$disk .*1d6b:0104" /tmp/offers || fail "the disk isn't in the list: $(cat /tmp/offers)"
grep -q "$zero .*0525:a4a0" /tmp/offers || fail "zero isn't in the list: $(cat /tmp/offers)"
refused "doesn't have it|doesn't say why" vusbctl import 127.0.0.1 9-9

note "the disk"
equal "the disk's id" "$(vusbctl import 127.0.0.1 "$disk" --name disk)" ip-disk
exported "$disk" 2 || fail "the kernel doesn't say that the disk is used"
disk_agrees
head -c 131072 /dev/urandom >/tmp/new
bot "$in" "$out" write 1000 </tmp/new || fail "write"
dd if=/tmp/backing bs=512 skip=1000 count=256 2>/dev/null | cmp - /tmp/new || fail "the backing file lacks what was written"

note "zero"
vusbctl import 127.0.0.1 "$zero" --name zero >/dev/null || fail "import of zero"
eventually 30 attachment web1 ip-zero
tree=$(attachment web1 ip-zero)
endpoints "$tree"
head -c 18 "$tree/descriptors" >/tmp/expected
urb control "$tree/ep/00" 8006000100001200 18 | cmp - /tmp/expected || fail "the device descriptor differs"
# Pattern 1 of the gadget: byte i of each packet is i mod 63.
for i in $(seq 0 62); do printf "\\$(printf %03o "$i")"; done >/tmp/cycle
cat /tmp/cycle /tmp/cycle /tmp/cycle /tmp/cycle /tmp/cycle /tmp/cycle /tmp/cycle /tmp/cycle /tmp/cycle |
    head -c 512 >/tmp/packet
urb read "$in" 512 | cmp - /tmp/packet || fail "the pattern"
cat /tmp/packet /tmp/packet | urb write "$out" || fail "write of two packets"
urb control "$tree/ep/00" "02030000${in##*/}000000" || fail "SET_FEATURE"
fails_with EPIPE urb read "$in" 512
urb control "$tree/ep/00" "02010000${in##*/}000000" || fail "CLEAR_FEATURE"
urb read "$in" 512 | cmp - /tmp/packet || fail "the pattern after the halt was cleared"

note "the server goes: usbipd ends, and the kernel its sessions"
kill "$(cat /run/usbipd.pid)" || fail "usbipd is gone already"
for id in "$disk" "$zero"; do echo -1 >"/sys/bus/usb/devices/$id/usbip_sockfd"; done
eventually 30 not_attached ip-disk
eventually 30 not_attached ip-zero
eventually 30 import_is ip-disk waiting

note "it comes back"
start_usbipd
disk_agrees
eventually 30 attachment web1 ip-zero
endpoints "$(attachment web1 ip-zero)"
urb read "$in" 512 | cmp - /tmp/packet || fail "the pattern after the return"

note "forgotten: the server has them again"
for name in disk zero; do vusbctl forget "ip-$name" >/dev/null || fail "forget ip-$name"; done
eventually 30 exported "$disk" 1
eventually 30 exported "$zero" 1
kill "$(cat /run/usbipd.pid)"
for id in "$disk" "$zero"; do usbip unbind -b "$id" >/dev/null 2>&1 || fail "usbip unbind $id"; done
vusbctl unload web1 >/dev/null || fail "unload"
