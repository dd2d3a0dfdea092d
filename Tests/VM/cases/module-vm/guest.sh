# SPDX-License-Identifier: Apache-2.0
# vusbd on the host, a virtual machine with a guest agent: `vusbctl load` there brings module and devices here, the
# kernel's own drivers use them, and `unload` leaves nothing.
usb_drivers
start_agent
ctl load vm1 --mode module
is_module_loaded || fail "load is done, and no module is here"
grep -q ' /vusb ' /proc/mounts || fail "load is done, and /vusb isn't mounted"
for device in emu-disk emu-serial emu-keyboard; do ctl attach $device vm1; done

note "disk: both sides see the same bytes"
path=$(wait_our_device 0525 a4a5) || exit 1
disk=$(wait_disk "$path") || exit 1
equal "the image" "$(sha256sum <"/dev/$disk" | cut -d' ' -f1)" "$(host image_sum)"
mount "/dev/$disk" /mnt || fail "mount"
equal "the file in it" "$(sha256sum </mnt/payload.bin | cut -d' ' -f1)" "$(host payload_sum)"
head -c 3000001 /dev/urandom >/tmp/new
cp /tmp/new /mnt/new.bin || fail "writing a file"
umount /mnt || fail "umount"
equal "what was written, as the host sees it" "$(host file_sum new.bin)" "$(sha256sum </tmp/new | cut -d' ' -f1)"

note "serial adapter"
path=$(wait_our_device 0525 a4a7) || exit 1
tty=$(wait_tty "$path") || exit 1
serial_echo "$tty" 1048576

note "keyboard"
path=$(wait_our_device 0525 a4ac) || exit 1
keyboard=$(wait_input "$path") || exit 1
read_keys "$keyboard"
ctl type emu-keyboard vusb
# KEY_V KEY_U KEY_S KEY_B
eventually 10 were_typed "47 22 31 48 "
stop_keys

note "away again"
ctl detach emu-serial
eventually 10 gone_from_us 0525 a4a7
ctl unload vm1
no_module_loaded || fail "unload is done, and the module is still here"
! grep -q ' /vusb ' /proc/mounts || fail "unload is done, and /vusb is still mounted"
