# SPDX-License-Identifier: Apache-2.0
# Ten guests on ten sticks at once: each reads the whole of its own and gets its own bytes.
ten_sticks() { [ "$(cat /sys/bus/usb/devices/*/serial 2>/dev/null | grep -c ^STICK)" -eq 10 ]; }
eventually 30 ten_sticks
start_vusbd
ten_known() { api devices | jq -e 'map(select(.state == "available" and .idVendor == "46f4")) | length == 10'; }
eventually 30 ten_known

# VID:PID alone names ten devices: it is refused, with the candidates.
vusbctl guest add lonely >/dev/null && vusbctl load lonely >/dev/null || fail "guest lonely"
refused "$(usb_device 46f4 0001)" vusbctl attach 46f4:0001 lonely

for n in 0 1 2 3 4 5 6 7 8 9; do
    make_guest "guest$n"
    vusbctl attach "46f4:0001:STICK$n" "guest$n" >/dev/null || fail "attach STICK$n"
done
equal "attachments" "$(api status | jq .attachments)" 10
for n in 0 1 2 3 4 5 6 7 8 9; do
    tree=$(echo /vusb/guests/guest$n/devices/*)
    bot "$tree/ep/81" "$tree/ep/02" read 0 4096 2>"/tmp/error.$n" | sha256sum | cut -d' ' -f1 >"/tmp/sum.$n" &
    eval "reader_$n=$!"
done
for n in 0 1 2 3 4 5 6 7 8 9; do
    eval "ending \$reader_$n"
    equal "bytes of guest$n $(cat "/tmp/error.$n")" "$(cat "/tmp/sum.$n")" "$(host image_sum $n)"
done

# One guest's device is not to be had by another.
refused 'guest3' vusbctl attach 46f4:0001:STICK3 lonely
for n in 0 1 2 3 4 5 6 7 8 9; do vusbctl unload "guest$n" >/dev/null || fail "unload guest$n"; done
equal "attachments" "$(api status | jq .attachments)" 0
eventually 30 ten_known
