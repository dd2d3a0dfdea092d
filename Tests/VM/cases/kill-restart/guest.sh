# SPDX-License-Identifier: Apache-2.0
# kill -9 of vusbd with devices attached and a reader blocked: the reader ends, and after a restart on the same mount
# point the guest has its devices, with the same numbers, and they work.
modprobe -a usb_storage sd_mod
stick=$(wait_device 46f4 0001) || exit 1
keyboard=$(wait_device 0627 0001) || exit 1
image_sum=$(host image_sum) || exit 1
start_vusbd
wait_known "$stick" available
wait_known "$keyboard" available
make_guest web1
lend "$keyboard" web1 >/dev/null
tree=$(lend "$stick" web1) || exit 1
keyboard_tree=$(attachment web1 "$keyboard")
numbers=$(cat "$tree/dev" "$keyboard_tree/dev")

for round in 1 2 3; do
    note "round $round"
    urb read "$keyboard_tree/ep/81" 8 >/dev/null 2>/tmp/reader-error &
    reader=$!
    eventually 10 sh -c 'api status | jq -e ".urbsInFlight == 1"'
    kill_vusbd
    ending $reader && fail "the blocked reader got something"
    grep -qwE 'ECONNABORTED|ENOTCONN|ENODEV|EIO' /tmp/reader-error || fail "the reader ended with: $(cat /tmp/reader-error)"

    start_vusbd
    eventually 30 attachment web1 "$stick"
    eventually 30 attachment web1 "$keyboard"
    equal "the stick's directory" "$(attachment web1 "$stick")" "$tree"
    equal "the numbers" "$(cat "$tree/dev" "$keyboard_tree/dev")" "$numbers"
    equal "the bytes" "$(bot "$tree/ep/81" "$tree/ep/02" read 0 4096 | sha256sum | cut -d' ' -f1)" "$image_sum"
    equal "mounts on /vusb" "$(grep -c ' /vusb ' /proc/mounts)" 1
done

note "a second vusbd is refused with the first one's pid"
refused "$vusbd_pid" vusbd
vusbctl unload web1 >/dev/null || fail "unload"
eventually 20 test -b /dev/sda
