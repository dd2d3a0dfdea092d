# SPDX-License-Identifier: Apache-2.0
# rmmod at any moment, with I/O in flight: it ends in bounded time, the drivers' I/O ends with errors, and the next load
# finds all as it should be.
usb_drivers
modprobe usbtest
start_agent

# load_under_load: module and devices, and work on both that goes on until they go.
load_under_load() {
    ctl load vm1 --mode module
    path=$(wait_our_device 0525 a4a5) || exit 1
    disk=$(wait_disk "$path") || exit 1
    zero=$(wait_our_device 0525 a4a0) || exit 1
    eventually 10 is_bound_to "$zero" 0 usbtest
    (while dd if="/dev/$disk" of=/dev/null bs=65536 iflag=direct; do :; done) >/dev/null 2>&1 8>&- &
    reader=$!
    (while usbtest "$(usb_node "$zero")" 27:1000:16384; do :; done) >/dev/null 2>&1 8>&- &
    tester=$!
    usleep 300000
}
# remove_within SECONDS
remove_within() {
    started=$(cut -d. -f1 /proc/uptime)
    rmmod vusb_hcd || fail "rmmod"
    [ $(($(cut -d. -f1 /proc/uptime) - started)) -le "$1" ] || fail "rmmod took more than $1 s"
    ending $reader
    ending $tester
    [ ! -e "/dev/$disk" ] || fail "the disk outlived the module"
}

for round in 1 2 3; do
    note "under load, round $round"
    load_under_load
    remove_within 10
    ctl unload vm1
    no_module_loaded || fail "unload left something"
done

note "and it all still works"
ctl load vm1 --mode module
path=$(wait_our_device 0525 a4a5) || exit 1
wait_disk "$path" >/dev/null
ctl unload vm1
