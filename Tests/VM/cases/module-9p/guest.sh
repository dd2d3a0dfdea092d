# SPDX-License-Identifier: Apache-2.0
# The guest's directory comes by 9p, and nothing in the guest has loaded usbcore yet.
start_agent
[ ! -d /sys/module/usbcore ] || fail "usbcore is here already; the case shows nothing"
ctl load vm1 --mode module
usb_drivers
path=$(wait_our_device 0525 a4a5) || exit 1
disk=$(wait_disk "$path") || exit 1
equal "the image" "$(sha256sum <"/dev/$disk" | cut -d' ' -f1)" "$(host image_sum)"
path=$(wait_our_device 0525 a4a7) || exit 1
tty=$(wait_tty "$path") || exit 1
serial_echo "$tty" 262144
path=$(wait_our_device 0525 a4a0) || exit 1
usbtest_alternate "$path" 0
usbtests "$path" "1 2 3 4 9 11 12 13 14 24" 1 2 3 4 9:5 11 12 13:10 14:10 24:10:512
ctl unload vm1
no_module_loaded || fail "unload is done, and the module is still here"
! grep -q ' /vusb ' /proc/mounts || fail "unload is done, and /vusb is still mounted"
