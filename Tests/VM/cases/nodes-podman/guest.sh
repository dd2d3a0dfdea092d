# SPDX-License-Identifier: Apache-2.0
# Two containers of podman's, made as the README says: Debian's programs in them, unmodified, see their guest's devices
# and work with them; another guest's nodes are refused; programs are told what comes and goes; a container that is
# killed with 32 transfers in flight leaves nothing behind.
. /vm/gadget.sh
. /vm/containers.sh
modprobe cuse
gadget_controllers 1
gadget_create zero 0525 a4a2 ZERO
gadget_function zero SourceSink.0
gadget_plug zero 0
gadget=$(wait_device 0525 a4a2) || exit 1

lsusb -v -d 0525:a4a2 2>/tmp/native.errors | without_numbers >/tmp/native
grep -q iManufacturer /tmp/native || fail "lsusb says nothing: $(cat /tmp/native.errors)"

start_vusbd --emulate zero,pattern=mod63 --emulate serial --emulate keyboard --emulate serial,name=other \
    --emulate serial,name=late
containers_ready
engine_ready
wait_known "$gadget"
vusbctl guest add web1 --nodes --device "$gadget" --device emu-zero --device emu-serial --device emu-keyboard \
    >/dev/null || fail "guest add web1"
vusbctl guest add web2 --nodes --device emu-other >/dev/null || fail "guest add web2"
ids() { grep -o 'ID [0-9a-f:]*' | cut -d' ' -f2 | sort | tr '\n' ' '; }

note "the README's recipe"
recipe podman >/tmp/made
web1=$(made) || fail "no container"
recipe podman s/web1/web2/g >/tmp/made
web2=$(made) || fail "no container"

note "Debian's programs"
equal "what web1 has" "$(inside "$web1" lsusb | ids)" "0525:a4a0 0525:a4a2 0525:a4a7 0525:a4ac 1d6b:0002 "
equal "what web2 has" "$(inside "$web2" lsusb | ids)" "0525:a4a7 1d6b:0002 "
inside "$web1" lsusb -v -d 0525:a4a2 2>/tmp/shown.errors | without_numbers >/tmp/shown
diff /tmp/native /tmp/shown || fail "lsusb -v differs: $(cat /tmp/shown.errors)"
note "lsusb -v of the gadget is the same, $(wc -c </tmp/shown) bytes"
# None of them is a DFU device, and dfu-util has looked at all.
inside "$web1" sh -exc 'dfu-util -l; cd /root; python3 usb-transfers.py zero; python3 usb-transfers.py serial' || fail "dfu-util or pyusb"

note "a keyboard, by usbhid-dump and by pyusb"
inside "$web1" usbhid-dump -m 0525:a4ac -e stream -t 0 >/tmp/dump 2>&1 &
dump=$!
eventually 10 in_flight emu-keyboard 1
vusbctl type emu-keyboard v || fail "type"
# 19: the usage of V in the keyboard's page.
eventually 10 grep -q "00 00 19 00" /tmp/dump
kill $(pidof usbhid-dump)
ending $dump
eventually 10 idle
inside "$web1" python3 /root/usb-transfers.py keyboard >/tmp/keys 2>&1 &
keys=$!
eventually 10 in_flight emu-keyboard 1
vusbctl type emu-keyboard v || fail "type"
ending $keys || fail "pyusb: $(cat /tmp/keys)"
equal "the reports" "$(tr '\n' ' ' </tmp/keys)" "0000190000000000 0000000000000000 "

note "another guest's node"
# make_node NODE: makes one with the numbers of this one, in web1's container; open_made opens it there.
make_node() {
    inside "$web1" sh -c 'rm -f /dev/made && mknod /dev/made c $1 $2' sh $(stat -c '%Hr %Lr' "$1") ||
        fail "no node can be made in the container"
}
open_made() { inside "$web1" sh -c 'exec 3<>/dev/made'; }
make_node "$(node_of web1 emu-zero)"
open_made || fail "its own node can't be opened when it's made anew"
make_node "$(node_of web2 emu-other)"
refused "Operation not permitted" open_made
# By mount it has it, and the rule is what keeps it from opening it.
podman run --rm --network none -v /vusb/guests/web1/dev/bus/usb:/dev/bus/usb:dev -v /vusb/guests/web2/dev/bus/usb:/mnt:dev \
    --device-cgroup-rule "c $(stat -c %Hr "$(node_of web1 emu-zero)"):* rw" --rootfs /srv/debian \
    sh -c 'exec 3<>/dev/bus/usb/001/002 && echo its own && exec 4<>/mnt/001/002' >/tmp/given 2>&1 &&
    fail "a container can open another guest's node"
grep -q "its own" /tmp/given && grep -q "Operation not permitted" /tmp/given || fail "$(cat /tmp/given)"

note "what comes and goes"
recipe podman-hotplug
# Four devices are there.
inside "$web1" /root/lu-plug 6 >/tmp/plug 2>&1 &
plug=$!
eventually 20 grep -q listening /tmp/plug
vusbctl attach emu-late web1 >/dev/null || fail "attach"
eventually 10 grep -q '^+ 0525:a4a7 1.6' /tmp/plug
vusbctl detach emu-late >/dev/null || fail "detach"
ending $plug || fail "lu-plug: $(cat /tmp/plug)"
equal "what was told" "$(sed '1,/listening/d' /tmp/plug | tr '\n' ';')" "+ 0525:a4a7 1.6;- 0525:a4a7 1.6;"

note "killed with 32 transfers in flight"
inside "$web1" /root/lu-serial hold >/tmp/hold 2>&1 &
hold=$!
eventually 10 grep -q held /tmp/hold
eventually 10 in_flight emu-serial 32
podman kill -s KILL web1 || fail "kill"
eventually 10 is_guest web1 unloaded
ending $hold
idle >/dev/null || fail "transfers are in flight yet: $(vusbctl status --json)"
podman rm web1 >/dev/null || fail "rm"
recipe podman
podman exec web1 /root/lu-serial echo || fail "the next container can't claim it, or it doesn't work"

podman rm -f -t 0 web1 web2 || fail "rm"
vusbctl unload web1 >/dev/null || fail "unload web1"
vusbctl unload web2 >/dev/null || fail "unload web2"
containers_done
