# SPDX-License-Identifier: Apache-2.0
# What a guest must not do, on a device that libusb has: each is answered with its error, and the device works on.
. /vm/gadget.sh
gadget_controllers 1
gadget_create zero 0525 a4a0 ZERO1
gadget_function zero SourceSink.0 pattern=0
gadget_plug zero 0
zero=$(wait_device 0525 a4a0) || exit 1
start_vusbd
wait_known "$zero" available
make_guest web1
tree=$(lend "$zero" web1) || exit 1
works() {
    urb control "$tree/ep/00" 8006000100001200 18 >/tmp/device || fail "endpoint 0 $1"
    head -c 18 "$tree/descriptors" | cmp - /tmp/device || fail "the device descriptor $1"
    urb read "$tree/ep/81" 512 >/tmp/zeros || fail "endpoint 0x81 $1"
    head -c 512 /dev/zero | cmp - /tmp/zeros || fail "bytes of endpoint 0x81 $1"
}

note "sizes"
fails_with EMSGSIZE urb read "$tree/ep/81" 524289
head -c 524289 /dev/zero >/tmp/large
urb write "$tree/ep/02" </tmp/large 2>/tmp/error && fail "a write of 512 KiB and a byte was done"
grep -qw EMSGSIZE /tmp/error || fail "a write of 512 KiB and a byte: $(cat /tmp/error)"
works "after wrong sizes"

note "setup packets"
# Seven bytes; an OUT request with less, and with more, data than its wLength says.
fails_with EINVAL urb control "$tree/ep/00" 80060001000012
fails_with EINVAL urb control "$tree/ep/00" 405b000000000400dead
fails_with EINVAL urb control "$tree/ep/00" 405b000000000200deadbeef
works "after wrong setup packets"
# wLength 65535 is more than libusb takes: an error; or what the device has.
urb control "$tree/ep/00" 800600010000ffff 65535 >/tmp/device 2>/tmp/error || grep -qwE 'EMSGSIZE|EINVAL' /tmp/error ||
    fail "wLength 65535: $(cat /tmp/error)"
[ ! -s /tmp/device ] || equal "the descriptor by wLength 65535" "$(stat -c %s /tmp/device)" 18
works "after wLength 65535"

note "settings that the device doesn't have"
# SET_CONFIGURATION 9, SET_INTERFACE 0 to alternate setting 9, SET_INTERFACE of interface 7.
for setup in 0009090000000000 010b090000000000 010b000007000000; do
    urb control "$tree/ep/00" $setup 2>/tmp/error && fail "$setup was done"
    grep -qwE 'EPIPE|EINVAL' /tmp/error || fail "$setup: $(cat /tmp/error)"
    works "after $setup"
done

note "SET_ADDRESS is the host's"
# Whatever it is answered, the device must keep its address.
urb control "$tree/ep/00" 0005630000000000 2>/dev/null
works "after SET_ADDRESS"
