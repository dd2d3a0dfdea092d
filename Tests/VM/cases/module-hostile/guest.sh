# SPDX-License-Identifier: Apache-2.0
# A guest that breaks the channel's rules in every way we know: it ends its own channel each time, and nothing else.
# vusbd answers, a neighbour's transfers go on, memory doesn't grow, and a good module finds all in order afterwards.
start_agent
ctl load vm1 --mode module
wait_our_device 0525 a4a0 >/dev/null
rmmod vusb_hcd || fail "rmmod"
rmmod vusb_channel || fail "rmmod"

host neighbour_begins
hostile /vusb/hcd 1 1 || fail "see above"
before=$(host memory)
for seed in 2 3 4; do hostile /vusb/hcd 1 $seed >/dev/null || fail "with seed $seed"; done
after=$(host memory)
host answers
note "the neighbour did $(host neighbour_ends) reads meanwhile; vusbd had $before and then $after MiB"
[ "$after" -le $((before + 20)) ] || fail "vusbd's memory grows: $before MiB, then $after"

for module in vusb_channel vusb_hcd; do
    insmod "/vm/modules/$(uname -r)/$module.ko" || fail "insmod $module"
done
zero=$(wait_our_device 0525 a4a0) || exit 1
usbtest_alternate "$zero" 0
usbtests "$zero" "1 2 9 10" 1 2 9:5 10:5
rmmod usbtest
ctl unload vm1
