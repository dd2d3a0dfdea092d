# SPDX-License-Identifier: Apache-2.0
# Four sources that two guests read all the time go from one to the other 250 times each, their transfers cancelled each
# time: no switch fails, each read is whole and right or has failed, and nothing is lost. One that may not cancel is refused.
. /vm/gadget.sh
gadget_controllers 4
for n in 0 1 2 3; do
    gadget_create zero$n 0525 a4a0 ZERO$n
    gadget_function zero$n SourceSink.0 pattern=1
    gadget_plug zero$n $n
done
start_vusbd
make_guest web1
make_guest web2
# The guests read them by the same names, wherever they are.
devices=
for n in 0 1 2 3; do
    eventually 30 with_serial ZERO$n
    device=$(with_serial ZERO$n)
    wait_known "$device" available
    equal "its directory" "$(lend "$device" web1)" "/vusb/guests/web1/devices/1-$((n + 1))"
    devices="$devices $device"
done
for device in $devices; do vusbctl switch "$device" web2 >/dev/null || fail "switch to web2"; done
n=1
for device in $devices; do
    equal "its directory" "$(attachment web2 "$device")" "/vusb/guests/web2/devices/1-$n"
    vusbctl switch "$device" web1 >/dev/null || fail "switch to web1"
    n=$((n + 1))
done

# all_to_and_fro TIMES: all at once.
all_to_and_fro() {
    movers=
    for device in $devices; do
        switches "$device" "$1" web2 web1 8>&- &
        movers="$movers $!"
    done
    for mover in $movers; do wait "$mover" || fail "a switch"; done
}
readers=
begin_reading() {
    for guest in web1 web2; do
        for n in 1 2 3 4; do
            pattern "/vusb/guests/$guest/devices/1-$n/ep/81" $((512 << (2 * n - 2))) 512 >>/tmp/read.$guest 2>>/tmp/wrong 8>&- &
            readers="$readers $!"
        done
    done
}
end_reading() {
    kill $readers
    for reader in $readers; do ending $reader || fail "a reader: $(cat /tmp/wrong)"; done
    readers=
}
descriptors() { ls "/proc/$vusbd_pid/fd" | wc -l; }
memory() { sed -n 's/VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$vusbd_pid/status"; }

# What is kept for the next time is there after that.
begin_reading
all_to_and_fro 5
end_reading
eventually 10 idle
files=$(descriptors) before=$(memory)

begin_reading
for device in $devices; do refused "in use|is open|uses" vusbctl switch "$device" web2 --deadline 200ms; done
all_to_and_fro 125
end_reading
eventually 10 idle
for guest in web1 web2; do
    note "$guest: $(tr '\n' ';' </tmp/read.$guest)"
    [ "$(awk '{ sum += $2 } END { print sum }' /tmp/read.$guest)" -gt 500 ] || fail "$guest has hardly read"
    ! grep -qE 'EIO|EPROTO|EINVAL|EPIPE|other' /tmp/read.$guest || fail "errors of $guest that no switch explains"
done
switched() { jq -s 'map(select(.type == "switched")) | length' /tmp/events; }
# Eight to begin with, and forty before the thousand.
are_switched() { [ "$(switched)" -eq 1048 ]; }
eventually 20 are_switched
note "a switch: $(jq -r 'select(.type == "switched") | .detail | capture("in (?<ms>[0-9]+) ms").ms' /tmp/events | sort -n |
    awk '{ a[NR] = $1 } END { print "p50 " a[int(NR * 0.5)] " ms, p99 " a[int(NR * 0.99)] " ms" }')"
has_as_many_descriptors() { [ "$(descriptors)" -le "$files" ]; }
eventually 10 has_as_many_descriptors
note "memory $before KiB before, $(memory) KiB after"
[ "$(memory)" -lt $((before + 8192)) ] || fail "vusbd has $(memory) KiB of memory, $before before"
for guest in web1 web2; do vusbctl unload $guest >/dev/null || fail "unload $guest"; done
