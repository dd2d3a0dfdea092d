# SPDX-License-Identifier: Apache-2.0
# The kernel's own test of a USB path, usbtest, against the emulated Gadget Zero, in each of its alternate settings:
# bulk alone, with isochronous and with interrupt endpoints. What a setting has no endpoints for doesn't run.
start_agent
ctl load vm1 --mode module
ctl attach emu-zero vm1
zero=$(wait_our_device 0525 a4a0) || exit 1

# Every setting has the bulk pair, so all but the isochronous and the interrupt ones run in each.
all="0 1 2 3 4 5:20 6:20 7:20 8:20 9:20 10:20 11:1000 12:1000 13:20 14:200 15:20 16:20 17 18 19 20 21:200 22:20 23:20
    24:1000:512 25 26 27:50:16384 28:50:16384 29"

note "alternate setting 0: control, bulk, scatter-gather, unlink, halt, unaligned"
usbtest_alternate "$zero" 0
usbtests "$zero" "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 17 18 19 20 21 24 27 28 29" $all
# Tests 11 and 12 unlink in each iteration; test 13 halts two endpoints and sees it twice at each.
port=usb2-${zero#*-}
[ "$(hcd_port "$port" unlinked)" -ge 2000 ] || fail "the module counts $(hcd_port "$port" unlinked) unlinked URBs"
[ "$(hcd_port "$port" errors)" -ge 80 ] || fail "the module counts $(hcd_port "$port" errors) errors"
equal "in flight afterwards" "$(hcd_state in_flight) $(hcd_state abandoned)" "0 0"

note "alternate setting 1: isochronous besides"
usbtest_alternate "$zero" 1
usbtests "$zero" "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 27 28 29" $all

note "alternate setting 2: interrupt besides"
usbtest_alternate "$zero" 2
usbtests "$zero" "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 17 18 19 20 21 24 25 26 27 28 29" $all
ctl unload vm1
