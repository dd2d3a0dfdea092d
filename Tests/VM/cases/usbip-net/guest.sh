# SPDX-License-Identifier: Apache-2.0
# vusbd in one network namespace, the kernel's client in another, and the link between them is cut and restored: the device
# is free within 15 s, at once where the client says that it goes, and the client can have it again with its bytes. Then
# the client is another vusbd, whose guest has the disk again by itself.
. /vm/usbip.sh
usb_drivers
# The shell has one of its own, which knows no namespaces.
ip() { /bin/ip "$@"; }
modprobe -a veth tcp_diag || fail "modprobe veth tcp_diag"
for side in a b; do ip netns add $side || fail "ip netns add $side"; done
ip link add veth-a netns a type veth peer name veth-b netns b || fail "ip link add"
ip -n a address add 10.0.0.1/24 dev veth-a
ip -n b address add 10.0.0.2/24 dev veth-b
for side in a b; do
    ip -n $side link set lo up
    ip -n $side link set veth-$side up || fail "ip link set veth-$side up"
done
in_b="nsenter -n/run/netns/b"
vusbd_command="nsenter -n/run/netns/a vusbd"
as_client=$in_b
server=10.0.0.1

head -c 16777216 /dev/urandom >/tmp/disk.img
image_sum=$(sha256sum </tmp/disk.img | cut -d' ' -f1)
start_vusbd --no-host --emulate disk=/tmp/disk.img
vusbctl guest add pc1 --listen tcp:10.0.0.1:3240 >/dev/null || fail "guest add"
vusbctl load pc1 || fail "load"
lend emu-disk pc1 >/dev/null

now() { jq -n now; }
# The client's end: vusbd's own has an address as before.
cut_link() {
    ip -n b link set veth-b down || fail "cutting the link"
    cut_at=$(now)
}
restore_link() { ip -n b link set veth-b up || fail "restoring the link"; }

# ended_by WHY TIME: a session has ended since then, and that's why.
ended_by() {
    jq -e -n --arg why "$1" --argjson since "$2" \
        '[inputs | select(.time >= $since and (.detail // "" | endswith(": " + $why)))] | length > 0' /tmp/events
}
# free_in_time: within 15 s of the cut, which is what USBIP.md promises (K2).
free_in_time() {
    eventually 15 export_is 1-1 free
    free_after=$(jq -n --argjson cut "$cut_at" 'now - $cut')
    note "free $free_after s after the cut"
    jq -e -n --argjson after "$free_after" '$after <= 15' >/dev/null || fail "free after $free_after s"
    eventually 5 ended_by "the peer has vanished" "$cut_at"
}

# attach_disk: the client has the disk; whether its bytes are right shows by attached_disk_is_right.
attach_disk() {
    import 1-1
    path=$(wait_vhci_device 0525 a4a5) || exit 1
    disk=$(wait_disk "$path") || exit 1
}
disk_is_right() {
    echo 3 >/proc/sys/vm/drop_caches
    equal "the disk" "$(sha256sum <"/dev/$disk" | cut -d' ' -f1)" "$image_sum"
}

note "cut while it's read"
attach_disk
disk_is_right
# A command without an answer is given up then, instead of after 30 s: by an UNLINK, which finds nobody.
echo 2 >"/sys/block/$disk/device/timeout"
bytes_of() { api guests | jq --arg path "$1" '.[].attachments[] | select(.path == $path) | .bytesIn'; }
has_carried() { [ "$(bytes_of "$1")" -ge "$2" ]; }
carried=$(bytes_of 1-1)
(while dd if="/dev/$disk" of=/dev/null bs=65536 iflag=direct; do :; done) >/dev/null 2>&1 8>&- &
reader=$!
eventually 30 has_carried 1-1 $((carried + 1048576))
cut_link
free_in_time
note "restored"
restore_link
eventually 30 no_vhci_device 0525 a4a5
# It ends with its first error.
ending $reader
attach_disk
disk_is_right

note "cut while nothing is in flight"
echo 2 >"/sys/block/$disk/device/timeout"
eventually 10 idle
cut_link
free_in_time
restore_link
# Its kernel is told as soon as it asks for something.
! dd if="/dev/$disk" of=/dev/null bs=65536 count=1 iflag=direct 2>/dev/null || fail "a read without a device"
eventually 30 no_vhci_device 0525 a4a5
attach_disk
disk_is_right

note "closed by the client"
begun=$(now)
drop 1-1
eventually 10 ended_by "the peer has closed the connection" "$begun"
eventually 10 export_is 1-1 free
attach_disk

note "reset by the client"
begun=$(now)
$in_b ss -K dst 10.0.0.1 dport = 3240 >/dev/null || fail "ss -K"
eventually 10 ended_by "the peer has reset the connection" "$begun"
eventually 10 export_is 1-1 free
eventually 10 no_vhci_device 0525 a4a5
attach_disk
disk_is_right

note "another vusbd imports it, and lends it on to a guest of its own"
drop 1-1
eventually 10 export_is 1-1 free
on_b() { vusbctl --socket /run/vusb/b.sock "$@"; }
mkdir -p /vusb-b /var/lib/vusb-b
rm -f /run/notify
notified /run/notify 60 >/tmp/notified &
waiter=$!
eventually 5 test -S /run/notify
NOTIFY_SOCKET=/run/notify $in_b vusbd --no-host --mount /vusb-b --socket /run/vusb/b.sock --state /var/lib/vusb-b \
    >/tmp/vusbd-b.log 2>&1 8>&- &
second=$!
wait $waiter || fail "the second vusbd: $(tail -5 /tmp/vusbd-b.log)"
equal "its id" "$(on_b import 10.0.0.1 1-1 --name disk)" ip-disk
on_b guest add web1 >/dev/null || fail "guest add"
on_b load web1 >/dev/null || fail "load"
on_b attach ip-disk web1 >/dev/null || fail "attach: $(tail -5 /tmp/vusbd-b.log)"
tree=/vusb-b/guests/web1/devices/1-1
read_all() { bot "$tree/ep/81" "$tree/ep/02" read 0 32768; }
is_right_through_both() { equal "the disk" "$(read_all | sha256sum | cut -d' ' -f1)" "$image_sum"; }
is_right_through_both
carried=$(bytes_of 1-1)
(
    while read_all; do :; done >/dev/null 2>/tmp/read.errors
    now >/tmp/read.ended
) 8>&- &
reader=$!
eventually 30 has_carried 1-1 $((carried + 1048576))
cut_link
free_in_time
ending $reader
grep -qw ENODEV /tmp/read.errors || fail "the reader was told $(cat /tmp/read.errors)"
told_after=$(jq --argjson cut "$cut_at" '. - $cut' /tmp/read.ended)
note "the reader was told after $told_after s: $(tr '\n' ' ' </tmp/read.errors)"
jq -e -n --argjson after "$told_after" '$after <= 15' >/dev/null || fail "the reader was told after $told_after s"
restore_link
# By itself, at its guest and in its place.
eventually 30 test -e "$tree/ep/81"
is_right_through_both
kill $second
ending $second || fail "the second vusbd ended with $?"
! grep -q ' /vusb-b ' /proc/mounts || fail "the second vusbd has left its mount"
vusbctl unload pc1 || fail "unload"
