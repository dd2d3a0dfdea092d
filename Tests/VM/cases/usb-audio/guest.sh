# SPDX-License-Identifier: Apache-2.0
# QEMU's usb-audio: isochronous OUT. The endpoint file appears with alternate setting 1 and goes with 0; what is
# written to it is played.
modprobe snd_usb_audio
audio=$(wait_device 46f4 0002) || exit 1
eventually 20 is_bound_to "$audio" 1 snd-usb-audio
start_vusbd
wait_known "$audio" available
make_guest web1
tree=$(lend "$audio" web1) || exit 1

[ ! -e "$tree/ep/01" ] || fail "the endpoint is there before its alternate setting is chosen"
# SET_INTERFACE: interface 1, alternate setting 1.
urb control "$tree/ep/00" 010b010001000000 || fail "SET_INTERFACE 1"
eventually 5 test -e "$tree/ep/01"

# 192 bytes are a millisecond of 48 kHz, two channels of 16 bits.
yes "$(printf '\064\022')" | tr -d '\n' | head -c 192000 >/tmp/second
equal "URBs" "$(iso write "$tree/ep/01" 20 192 </tmp/second)" 50
note "a frame whose lengths don't add up is refused"
printf '\001\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\377\0\0\0\0\0\0\0abc' >/tmp/frame
urb write "$tree/ep/01" </tmp/frame 2>/tmp/error && fail "accepted a frame that lies"
grep -qw EINVAL /tmp/error || fail "a frame that lies gave $(cat /tmp/error)"

urb control "$tree/ep/00" 010b000001000000 || fail "SET_INTERFACE 0"
eventually 5 test ! -e "$tree/ep/01"
vusbctl detach "$audio" >/dev/null || fail "detach"
eventually 20 is_bound_to "$audio" 1 snd-usb-audio
