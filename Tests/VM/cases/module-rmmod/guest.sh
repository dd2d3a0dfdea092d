# SPDX-License-Identifier: Apache-2.0
# rmmod at any moment, with I/O in flight: it ends in bounded time, the drivers' I/O ends with errors, and the next load
# finds all as it should be.
usb_drivers
modprobe usbtest
start_agent

# remove_within SECONDS
remove_within() {
    started=$(cut -d. -f1 /proc/uptime)
    rmmod vusb_hcd || fail "rmmod"
    [ $(($(cut -d. -f1 /proc/uptime) - started)) -le $(($1 * time_factor)) ] || fail "rmmod took more than $(($1 * time_factor)) s"
    ending $reader
    ending $tester
    [ ! -e "/dev/$disk" ] || fail "the disk outlived the module"
}

for round in 1 2 3; do
    note "under load, round $round"
    ctl load vm1 --mode module
    under_load
    remove_within 10
    ctl unload vm1
    no_module_loaded || fail "unload left something"
done

note "and it all still works"
ctl load vm1 --mode module
path=$(wait_our_device 0525 a4a5) || exit 1
wait_disk "$path" >/dev/null
ctl unload vm1
