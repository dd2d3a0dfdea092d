# SPDX-License-Identifier: Apache-2.0
# A source that two guests read all the time goes from one to the other a thousand times, its transfers cancelled each
# time: no switch fails, each read is whole and right or has failed, and nothing is lost. One that may not cancel is refused.
. /vm/gadget.sh
switches=1000
gadget_controllers 1
gadget_create zero 0525 a4a0 ZERO1
gadget_function zero SourceSink.0 pattern=1
gadget_plug zero 0
zero=$(wait_device 0525 a4a0) || exit 1
start_vusbd
wait_known "$zero" available
make_guest web1
make_guest web2
lend "$zero" web1 >/dev/null || exit 1

# switch_to GUEST DEADLINE ON-DEADLINE: prints the state in which the operation ended.
switch_to() {
    switch_operation=$(api "devices/$zero/switch" \
        "{\"guest\": \"$1\", \"deadlineSeconds\": $2, \"onDeadline\": \"$3\"}" | sed 's/.*"id":\([0-9]*\).*/\1/')
    api "operations/$switch_operation?wait=60" | grep -oE '"state":"(succeeded|failed|cancelled|running)"' | cut -d'"' -f4
}
readers=
begin_reading() {
    for guest in web1 web2; do
        for size in 512 65536; do
            pattern "/vusb/guests/$guest/devices/1-1/ep/81" $size 512 >>/tmp/read.$guest 2>>/tmp/wrong 8>&- &
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
for n in $(seq 10); do
    equal "switch to web2" "$(switch_to web2 0 cancel)" succeeded
    equal "switch to web1" "$(switch_to web1 0 cancel)" succeeded
done
end_reading
eventually 10 idle
files=$(descriptors) before=$(memory)

begin_reading
equal "a switch that may not cancel" "$(switch_to web2 0.2 refuse)" failed
n=0
while [ $n -lt $switches ]; do
    equal "switch $n" "$(switch_to web2 0 cancel)" succeeded
    equal "switch $((n + 1))" "$(switch_to web1 0 cancel)" succeeded
    n=$((n + 2))
done
end_reading
eventually 10 idle
for guest in web1 web2; do
    note "$guest: $(tr '\n' ';' </tmp/read.$guest)"
    [ "$(awk '{ sum += $2 } END { print sum }' /tmp/read.$guest)" -gt $((switches / 4)) ] || fail "$guest has hardly read"
    ! grep -qE 'EIO|EPROTO|EINVAL|EPIPE|other' /tmp/read.$guest || fail "errors of $guest that no switch explains"
done
switched() { jq -s 'map(select(.type == "switched")) | length' /tmp/events; }
are_switched() { [ "$(switched)" -eq $((switches + 20)) ]; }
eventually 20 are_switched
note "a switch: $(jq -r 'select(.type == "switched") | .detail | capture("in (?<ms>[0-9]+) ms").ms' /tmp/events | sort -n |
    awk '{ a[NR] = $1 } END { print "p50 " a[int(NR * 0.5)] " ms, p99 " a[int(NR * 0.99)] " ms" }')"
has_as_many_descriptors() { [ "$(descriptors)" -le "$files" ]; }
eventually 10 has_as_many_descriptors
note "memory $before KiB before, $(memory) KiB after"
[ "$(memory)" -lt $((before + 8192)) ] || fail "vusbd has $(memory) KiB of memory, $before before"
for guest in web1 web2; do vusbctl unload $guest >/dev/null || fail "unload $guest"; done
