# SPDX-License-Identifier: Apache-2.0
# kill -9 of vusbd while the module reads a disk and holds a keyboard open: what waits gets an error, the devices go,
# and with the next vusbd they come again and work, without a new load.
usb_drivers
head -c 8388608 /dev/urandom >/tmp/backing
image_sum=$(sha256sum </tmp/backing | cut -d' ' -f1)
options="--modules /vm/modules --no-host --emulate disk=/tmp/backing --emulate keyboard --emulate serial"
start_vusbd $options
vusbctl guest add vm1 --device emu-disk --device emu-keyboard --device emu-serial >/dev/null || fail "guest add"
vusbctl load vm1 --mode module || fail "load"

for round in 1 2 3; do
    note "round $round"
    path=$(wait_our_device 0525 a4a5) || exit 1
    disk=$(wait_disk "$path") || exit 1
    path=$(wait_our_device 0525 a4ac) || exit 1
    keyboard=$(wait_input "$path") || exit 1
    cat "$keyboard" >/dev/null 2>&1 8>&- &
    typist=$!
    (while dd if="/dev/$disk" of=/dev/null bs=65536 iflag=direct; do :; done) >/dev/null 2>&1 8>&- &
    reader=$!
    usleep 200000
    kill_vusbd
    ending $reader
    ending $typist
    eventually 10 gone_from_us 0525 a4a5
    is_module_loaded || fail "the module went with vusbd"

    start_vusbd $options
    path=$(wait_our_device 0525 a4a5) || exit 1
    disk=$(wait_disk "$path") || exit 1
    equal "the bytes" "$(sha256sum <"/dev/$disk" | cut -d' ' -f1)" "$image_sum"
    path=$(wait_our_device 0525 a4a7) || exit 1
    tty=$(wait_tty "$path") || exit 1
    serial_echo "$tty" 65536
    path=$(wait_our_device 0525 a4ac) || exit 1
    keyboard=$(wait_input "$path") || exit 1
    read_keys "$keyboard"
    vusbctl type emu-keyboard a >/dev/null || fail "type"
    eventually 10 were_typed "30 "
    stop_keys
done
vusbctl unload vm1 || fail "unload"
no_module_loaded || fail "unload is done, and the module is still here"

note "the machine's power-off, with a vusbd that is silent and a file being written"
vusbctl load vm1 --mode module || fail "load"
path=$(wait_our_device 0525 a4a5) || exit 1
disk=$(wait_disk "$path") || exit 1
mke2fs -q "/dev/$disk" || fail "mke2fs"
mount "/dev/$disk" /mnt || fail "mount"
cat /dev/zero >/mnt/file 2>/dev/null 8>&- &
eventually 10 test -s /mnt/file
kill -STOP "$vusbd_pid"
# It can't be asked to end.
vusbd_pid=
