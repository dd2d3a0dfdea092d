# SPDX-License-Identifier: Apache-2.0
# A host that has gone silent: rmmod, an unplug in the guest and transfers that nobody answers take bounded time, and
# nothing is stuck. When the host speaks again, so do the devices.
usb_drivers
modprobe usbtest
start_agent

# silent_under_load: the host stops in the middle of it.
silent_under_load() {
    under_load
    host freeze
    started=$(cut -d. -f1 /proc/uptime)
}
# took_at_most SECONDS WHAT: since the host is silent.
took_at_most() {
    took=$(($(cut -d. -f1 /proc/uptime) - started))
    note "$2 after $took s"
    [ $took -le $(($1 * time_factor)) ] || fail "$2: that took $took s"
}

note "rmmod"
ctl load vm1 --mode module
silent_under_load
rmmod vusb_hcd || fail "rmmod"
took_at_most 30 "the module is out"
ending $reader
ending $tester
[ ! -e "/dev/$disk" ] || fail "the disk outlived the module"
host thaw
ctl unload vm1
eventually 10 no_module_loaded

note "an unplug in the guest, and transfers that nobody answers"
ctl load vm1 --mode module
silent_under_load
echo 1 >"/sys/bus/usb/devices/$path/remove"
took_at_most 30 "the disk is out"
[ ! -e "/dev/$disk" ] || fail "the disk outlived its unplug"
ending $reader
ending $tester
eventually 10 gone_from_us 0525 a4a0
took_at_most 40 "the other device is gone, too"
host thaw
path=$(wait_our_device 0525 a4a5) || exit 1
disk=$(wait_disk "$path") || exit 1
equal "the disk afterwards" "$(sha256sum <"/dev/$disk" | cut -d' ' -f1)" "$(host image_sum)"
ctl unload vm1
no_module_loaded || fail "unload is done, and the module is still here"
