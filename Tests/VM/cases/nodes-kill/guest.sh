# SPDX-License-Identifier: Apache-2.0
# Programs and vusbd are killed with transfers in flight: nothing is left, nobody hangs. Ten guests at once each have
# their own device, and nobody has another's.
modprobe cuse
# Adapters with the names emu-serial-1 and 2, and zeros emu-zero-1 to 10.
start_vusbd --emulate serial,count=2 --emulate zero,pattern=mod63,count=10
vusbctl guest add web1 --nodes --device emu-serial-1 --owner alice >/dev/null || fail "guest add web1"
vusbctl guest add web2 --nodes --device emu-serial-2 --owner bob >/dev/null || fail "guest add web2"
vusbctl load web1 >/dev/null || fail "load web1"
vusbctl load web2 >/dev/null || fail "load web2"
in_flight() { vusbctl status --json | jq -e --argjson least "$1" '.urbsInFlight >= $least'; }
# hold FILE: a program of web1 with 32 reads in flight.
hold() {
    vusbctl run --guest web1 -- lu-serial hold >"$1" 2>&1 8>&- &
    holder=$!
    eventually 10 grep -q held "$1"
    eventually 10 in_flight 32
}

note "kill -9 of a program with 32 transfers in flight"
hold /tmp/hold
refused 'BUSY' vusbctl run --guest web1 -- lu-serial claim
kill -KILL $holder
wait $holder
# The close has cancelled all and is answered when that's done: the kernel has let go of the process only then.
idle >/dev/null || fail "transfers are in flight yet: $(vusbctl status --json)"
vusbctl run --guest web1 -- lu-serial claim || fail "it can't be claimed after the kill"
vusbctl run --guest web1 -- lu-serial echo || fail "it doesn't work after the kill"

note "by mode and by view, nobody has another's"
own=$(ls /vusb/guests/web1/dev/bus/usb/001 | tail -n 1)
for node in /vusb/guests/web1/dev/bus/usb/001/*; do
    equal "owner and mode of $node" "$(stat -c '%U %a' "$node")" "alice 600"
    refused 'denied' su bob -s /bin/sh -c "exec 3<>$node"
done
node=/vusb/guests/web1/dev/bus/usb/001/$own
su alice -s /bin/sh -c "exec 3<>$node" || fail "alice can't open her own $node"
serial_of() { vusbctl run --guest "$1" -- lsusb -v -d 0525:a4a7 2>/dev/null | sed -n 's/.*iSerial *[0-9]* //p'; }
first=$(serial_of web1)
second=$(serial_of web2)
[ -n "$first" ] && [ -n "$second" ] && [ "$first" != "$second" ] || fail "web1 has '$first', web2 has '$second'"
equal "what web2 sees" "$(vusbctl run --guest web2 -- sh -c 'stat -c %t:%T /dev/bus/usb/*/*' | sort)" \
    "$(stat -c %t:%T /vusb/guests/web2/dev/bus/usb/*/* | sort)"

note "kill -9 of vusbd under an open node"
hold /tmp/hold
kill_vusbd
ending $holder || fail "lu-serial hold: $(cat /tmp/hold)"
equal "how the transfers ended" "$(tr '\n' ' ' </tmp/hold)" "held gone: 32 of 32 "
start_vusbd --emulate serial,count=2 --emulate zero,pattern=mod63,count=10
eventually 30 attachment web1 emu-serial-1
eventually 30 attachment web2 emu-serial-2
vusbctl run --guest web1 -- lu-serial echo || fail "web1's device doesn't work after the restart"
equal "web2's device" "$(serial_of web2)" "$second"
vusbctl unload web1 >/dev/null && vusbctl unload web2 >/dev/null || fail "unload"

note "ten guests at once"
for n in 1 2 3 4 5 6 7 8 9 10; do
    vusbctl guest add "guest$n" --nodes --device "emu-zero-$n" >/dev/null || fail "guest add guest$n"
    vusbctl run --guest "guest$n" -- lu-zero 64 >"/tmp/ten.$n" 2>&1 8>&- &
    eval "program_$n=$!"
done
for n in 1 2 3 4 5 6 7 8 9 10; do
    eval "ending \$program_$n" || fail "guest$n: $(cat "/tmp/ten.$n")"
    vusbctl devices --json | jq -r --arg id "emu-zero-$n" '.[] | select(.id == $id) | "serial " + .serial' >/tmp/expected
    equal "guest$n's device" "$(grep ^serial "/tmp/ten.$n")" "$(cat /tmp/expected)"
done
equal "serial numbers seen" "$(cat /tmp/ten.* | grep ^serial | sort -u | wc -l)" 10
