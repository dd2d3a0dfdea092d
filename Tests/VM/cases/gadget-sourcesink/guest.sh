# SPDX-License-Identifier: Apache-2.0
# The kernel's own Gadget Zero on dummy_hcd: patterns read, a sink written, vendor requests, a halt set and cleared.
. /vm/gadget.sh
gadget_controllers 1
gadget_create zero 0525 a4a0 ZERO1
gadget_function zero SourceSink.0 pattern=1
gadget_plug zero 0
zero=$(wait_device 0525 a4a0) || exit 1
start_vusbd
wait_known "$zero" available
make_guest web1
tree=$(lend "$zero" web1) || exit 1

# Pattern 1 of the gadget: byte i of each packet is i mod 63.
for i in $(seq 0 62); do printf "\\$(printf %03o "$i")"; done >/tmp/cycle
cat /tmp/cycle /tmp/cycle /tmp/cycle /tmp/cycle /tmp/cycle /tmp/cycle /tmp/cycle /tmp/cycle /tmp/cycle |
    head -c 512 >/tmp/packet
cp /tmp/packet /tmp/pattern
for i in $(seq 10); do cat /tmp/pattern /tmp/pattern >/tmp/doubled && mv /tmp/doubled /tmp/pattern; done

note "bulk in"
for size in 512 4096 65536 524288; do
    urb read "$tree/ep/81" $size >/tmp/source || fail "read of $size"
    equal "length of the source" "$(stat -c %s /tmp/source)" $size
    head -c $size /tmp/pattern | cmp - /tmp/source || fail "wrong pattern in a read of $size"
done
note "bulk out"
cat /tmp/packet /tmp/packet | urb write "$tree/ep/02" || fail "write of two packets"
head -c 100 /tmp/packet | urb write "$tree/ep/02" || fail "write of a short packet"

note "control"
# GET_DESCRIPTOR(DEVICE): 80 06 00 01 00 00 12 00
urb control "$tree/ep/00" 8006000100001200 18 >/tmp/device || fail "GET_DESCRIPTOR"
head -c 18 "$tree/descriptors" | cmp - /tmp/device || fail "device descriptor differs"
# Vendor requests 5b (OUT: keep these bytes) and 5c (IN: return them).
urb control "$tree/ep/00" 405b000000000400deadbeef || fail "vendor request 5b"
equal "what 5c returns" "$(urb control "$tree/ep/00" c05c000000000400 4 | hexdump -v -e '4/1 "%02x"')" deadbeef
# An unknown request stalls; endpoint 0 recovers by itself.
fails_with EPIPE urb control "$tree/ep/00" c0ee000000000400 4
urb control "$tree/ep/00" 8006000100001200 18 >/dev/null || fail "endpoint 0 after a stall"

note "halt"
# SET_FEATURE(ENDPOINT_HALT) on 0x81, then CLEAR_FEATURE.
urb control "$tree/ep/00" 0203000081000000 || fail "SET_FEATURE"
fails_with EPIPE urb read "$tree/ep/81" 512
urb control "$tree/ep/00" 0201000081000000 || fail "CLEAR_FEATURE"
urb read "$tree/ep/81" 512 | cmp - /tmp/packet || fail "the pattern after the halt was cleared"

note "four readers at once"
for n in 1 2 3 4; do urb read "$tree/ep/81" 65536 8 >/tmp/reader.$n & eval "reader_$n=$!"; done
for n in 1 2 3 4; do
    eval "ending \$reader_$n" || fail "reader $n"
    equal "bytes of reader $n" "$(stat -c %s /tmp/reader.$n)" 524288
done
