# SPDX-License-Identifier: Apache-2.0
# A device is pulled out in the middle of a read, blocked or busy: ENODEV, its directory goes, others are unaffected;
# plugged in again it comes back to its guest by itself.
keyboard=$(wait_device 0627 0001) || exit 1
stick=$(wait_device 46f4 0001) || exit 1
start_vusbd
wait_known "$keyboard" available
wait_known "$stick" available
vusbctl guest add web1 --device 0627:0001 --device 46f4:0001:STICK1 >/dev/null || fail "guest add"
vusbctl load web1 >/dev/null || fail "load"
keyboard_tree=$(attachment web1 "$keyboard") || fail "the keyboard isn't attached by load"
stick_tree=$(attachment web1 "$stick") || fail "the stick isn't attached by load"

note "unplugged while a read is blocked"
fails_with ENODEV urb read "$keyboard_tree/ep/81" 8 &
reader=$!
eventually 10 sh -c 'api status | jq -e ".urbsInFlight == 1"'
host unplug keyboard
ending $reader || exit 1
eventually 10 test ! -e "$keyboard_tree"
bot "$stick_tree/ep/81" "$stick_tree/ep/02" read 0 16 | cmp - /dev/zero -n 8192 || fail "the stick is affected"

note "plugged in again"
host plug_keyboard
eventually 30 attachment web1 "$keyboard"
keyboard_tree=$(attachment web1 "$keyboard")
urb read "$keyboard_tree/ep/81" 8 >/tmp/report &
reader=$!
eventually 10 sh -c 'api status | jq -e ".urbsInFlight == 1"'
host type a
ending $reader || fail "the keyboard doesn't work after its return"
equal "its report" "$(hexdump -v -e '8/1 "%02x"' /tmp/report)" 0000040000000000

note "unplugged while a program reads without pause"
touch /tmp/reading
(
    while bot "$stick_tree/ep/81" "$stick_tree/ep/02" read 0 4096 >/dev/null 2>/tmp/busy-error; do touch /tmp/went-round; done
    rm /tmp/reading
) &
reader=$!
eventually 20 test -e /tmp/went-round
host unplug stick
eventually 20 test ! -e /tmp/reading
ending $reader
# The read in flight ends with ENODEV; the next open may find that the file is gone.
grep -qwE 'ENODEV|ENOENT' /tmp/busy-error || fail "the busy reader ended with: $(cat /tmp/busy-error)"
eventually 10 test ! -e "$stick_tree"

note "and again, five times"
for round in 1 2 3 4 5; do
    host plug_stick
    eventually 30 attachment web1 "$stick"
    stick_tree=$(attachment web1 "$stick")
    bot "$stick_tree/ep/81" "$stick_tree/ep/02" capacity >/dev/null || fail "the stick doesn't work in round $round"
    host unplug stick
    eventually 10 test ! -e "$stick_tree"
done
