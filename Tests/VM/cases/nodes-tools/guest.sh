# SPDX-License-Identifier: Apache-2.0
# Debian's adb and OpenOCD, unmodified, in a container of podman's made as the README says, with gadgets that programs
# of ours serve: a device for adb, which speaks usbfs itself, and a debug probe. The emulated disk by libusb.
. /vm/gadget.sh
. /vm/containers.sh
modprobe cuse
head -c 4194304 /dev/urandom >/tmp/disk.img
start_vusbd --emulate disk=/tmp/disk.img
containers_ready
engine_ready

# served NAME VID PID SERIAL CONTROLLER: a gadget that gadget-NAME.py serves. That needs Python, which the container's
# root has; FunctionFS is mounted in a mount namespace of its own. Sets server.
served() {
    gadget_create "$1" "$2" "$3" "$4"
    gadget_function "$1" "ffs.$1"
    unshare --mount sh -ec '
        mount -t functionfs "$1" /srv/debian/mnt
        exec chroot /srv/debian python3 "/root/gadget-$1.py" /mnt' sh "$1" >"/tmp/$1.said" 8>&- &
    server=$!
    eventually 20 grep -q ready "/tmp/$1.said"
    gadget_plug "$1" "$5"
}
gadget_controllers 2
served adb 18d1 4ee7 VUSBADB1 0
servers=$server
served cmsis-dap 0d28 0204 VUSBDAP1 1
servers="$servers $server"
phone=$(wait_device 18d1 4ee7) || exit 1
probe=$(wait_device 0d28 0204) || exit 1
wait_known "$phone"
wait_known "$probe"
vusbctl guest add web1 --nodes --device "$phone" --device "$probe" --device emu-disk >/dev/null || fail "guest add web1"
recipe podman >/tmp/made
web1=$(made) || fail "no container"

note "adb"
adb() { inside "$web1" adb "$@"; }
# listed TEXT: all the devices that adb has.
listed() { listed=$(adb devices) && [ "$(echo "$listed" | sed '1d; /^$/d' | tr '\t' ' ')" = "$1" ]; }
adb start-server || fail "adb start-server"
adb=$(pidof adb)
eventually 20 listed "VUSBADB1 device"
equal "what its shell says" "$(adb shell echo one two)" "one two"
head -c 1048576 /dev/urandom >/srv/debian/tmp/there
there=$(sha256sum </srv/debian/tmp/there | cut -d' ' -f1)
adb push /tmp/there /data/there || fail "adb push"
equal "what it has" "$(adb shell sha256sum /data/there)" "$there"
adb pull /data/there /tmp/back || fail "adb pull"
cmp /srv/debian/tmp/there /srv/debian/tmp/back || fail "adb pulled something else than it pushed"

note "the device is taken away from adb, and given back"
refused "process $adb works with" vusbctl detach "$phone" --deadline 0s
vusbctl detach "$phone" --cancel --deadline 0s || fail "detach"
eventually 20 listed ""
vusbctl attach "$phone" web1 >/dev/null || fail "attach"
eventually 20 listed "VUSBADB1 device"
equal "what it has" "$(adb shell sha256sum /data/there)" "$there"
equal "adb's server" "$(pidof adb)" "$adb"

note "OpenOCD"
inside "$web1" openocd -c "adapter driver cmsis-dap" -c "cmsis_dap_backend usb_bulk" -c "transport select swd" \
    -c "adapter speed 1000" -c "swd newdap chip cpu -expected-id 0x2ba01477" \
    -c "dap create chip.dap -chain-position chip.cpu" -c init -c 'echo "DPIDR: [chip.dap dpreg 0]"' -c shutdown \
    >/tmp/openocd 2>&1 || fail "openocd: $(cat /tmp/openocd)"
cat /tmp/openocd
for said in "serial=VUSBDAP1" "FW Version = 2.1.0" "Serial# = VUSBDAP1" "SWD DPIDR 0x2ba01477" "DPIDR: 0x2ba01477"; do
    grep -qF "$said" /tmp/openocd || fail "openocd doesn't say $said"
done
! grep Error /tmp/openocd || fail "openocd has met errors"
vusbctl detach "$probe" || fail "openocd has left something behind"

note "a disk, by libusb"
inside "$web1" /root/lu-disk 0525:a4a5 read | cmp - /tmp/disk.img || fail "what was read differs from the image"
inside "$web1" /root/lu-disk 0525:a4a5 write 1000 </srv/debian/tmp/there || fail "lu-disk write"
dd if=/tmp/disk.img bs=512 skip=1000 count=2048 2>/dev/null | cmp - /srv/debian/tmp/there ||
    fail "the image lacks what was written"

adb kill-server || fail "adb kill-server"
eventually 10 has_ended "$adb"
vusbctl detach "$phone" || fail "adb has left something behind"
podman rm -f -t 0 web1 || fail "rm"
vusbctl unload web1 >/dev/null || fail "unload web1"
kill $servers
containers_done
