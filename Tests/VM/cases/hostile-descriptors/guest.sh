# SPDX-License-Identifier: Apache-2.0
# Devices whose configuration descriptors lie, also in ways that hang or crash libusb itself: each is refused within
# 100 ms of its node's appearance, with the offset named, while another device goes on working.
modprobe dummy_hcd is_high_speed=1 is_super_speed=0 num=1
modprobe gadgetfs
mkdir -p /dev/gadget
mount -t gadgetfs gadgetfs /dev/gadget
keyboard=$(wait_device 0627 0001) || exit 1
start_vusbd
wait_known "$keyboard" available
make_guest web1
tree=$(lend "$keyboard" web1) || exit 1

# refusal_time DEVICE: milliseconds from the making of its node to the event that says that it is refused.
# By its path, for the shell would take its own stat, which knows no fractions.
refusal_time() {
    jq -n --arg device "$1" --argjson made "$(/bin/stat -c %.3Z "$(usb_node "$1")")" \
        '[inputs | select(.type == "device-refused" and .device == $device) | .time] |
            (last - $made) * 1000 | floor' /tmp/events
}

# lie WHAT OFFSET HEX: the offset is counted as in the `descriptors` file: 18 bytes of device descriptor come first.
# Whether it is fast may be tried three times: on a machine under load nothing is within 100 ms each time.
lie() {
    note "$1"
    for lie_attempt in 1 2 3; do
        plug_liar "$@"
        [ "$lie_time" -gt 100 ] || return 0
    done
    fail "$1: refused only after $lie_time ms"
}

plug_liar() {
    liar /dev/gadget/dummy_udc "$3" >/tmp/liar 2>&1 8>&- &
    liar_pid=$!
    liar_id=$(wait_device 1209 0666) || exit 1
    wait_known "$liar_id" refused
    lie_reason=$(api devices | jq -r --arg id "$liar_id" '.[] | select(.id == $id) | .reason')
    echo "$lie_reason" | grep -qw "$2" || fail "$1: the reason doesn't name offset $2: $lie_reason"
    eventually 5 had_event device-refused device "$liar_id"
    lie_time=$(refusal_time "$liar_id")
    echo "   refused after $lie_time ms: $lie_reason"
    refused "refused|descriptor" vusbctl attach "$liar_id" web1
    keyboard_works "$1"

    kill -KILL $liar_pid
    wait $liar_pid
    eventually 20 is_unknown "$liar_id"
}

is_unknown() { ! knows_device "$1"; }

keyboard_works() {
    urb read "$tree/ep/81" 8 2 >/tmp/reports &
    works_reader=$!
    eventually 10 sh -c 'api status | jq -e ".urbsInFlight >= 1"'
    host type a
    ending $works_reader || fail "$1: the keyboard is affected"
    equal "the keyboard's reports" "$(hexdump -v -e '8/1 "%02x" " "' /tmp/reports)" "0000040000000000 0000000000000000 "
}

# Linux cuts these three off where they become nonsense; what is left is shorter than its wTotalLength (byte 20) says.
lie "a descriptor of length 0" 20 "0902200001010080320904000002ff00000007058102400000""00050202400000"
lie "a descriptor of length 1" 20 "0902200001010080320904000002ff00000007058102400000""01050202400000"
lie "a descriptor past the end" 20 "0902190001010080320904000001ff000000""20058102400000"
lie "an endpoint announced and missing" 31 "09021900010100803209040000""02""ff00000007058102400000"
lie "an endpoint twice" 45 "0902200001010080320904000002ff00000007058102400000""0705""8102400000"
lie "255 interfaces" 22 "09021900""ff""0100803209040000""01""ff00000007058102400000"
