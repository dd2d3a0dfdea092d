# SPDX-License-Identifier: Apache-2.0
# Programs and vusbd are killed with 32 transfers in flight: nothing is left, nobody hangs, and after vusbd's restart
# guests have their devices as before.
modprobe cuse
cat >/tmp/vusb.yaml <<'END'
emulate: ["serial,count=2"]
guests:
  web1: {nodes: true, load: true, devices: [emu-serial-1]}
  web2: {nodes: true, load: true, devices: [emu-serial-2]}
END
start_vusbd --config /tmp/vusb.yaml
eventually 10 attachment web1 emu-serial-1
all_in_flight() { api status | jq -e '.urbsInFlight == 32'; }
# hold: a program of web1 with 32 reads in flight; what it says is in /tmp/hold.
hold() {
    vusbctl run --guest web1 -- lu-serial hold >/tmp/hold 2>&1 8>&- &
    holder=$!
    eventually 10 grep -q held /tmp/hold
    eventually 10 all_in_flight
}
nodes() { (cd /vusb/guests && stat -c '%n %t:%T' web?/dev/bus/usb/*/*) | sort; }

note "kill -9 of a program"
hold
refused 'BUSY' vusbctl run --guest web1 -- lu-serial claim
kill -KILL $holder
wait $holder
# The kernel lets go of the process when its close is answered, and that's when all has ended.
idle >/dev/null || fail "transfers are in flight yet: $(vusbctl status --json)"
vusbctl run --guest web1 -- lu-serial claim || fail "it can't be claimed after the kill"
vusbctl run --guest web1 -- lu-serial echo || fail "it doesn't work after the kill"

note "kill -9 of vusbd under an open node"
hold
names=$(nodes | cut -d' ' -f1)
kill_vusbd
ending $holder || fail "lu-serial hold: $(cat /tmp/hold)"
equal "how the transfers ended" "$(tr '\n' ' ' </tmp/hold)" "held gone: 32 of 32 "
start_vusbd --config /tmp/vusb.yaml
eventually 30 attachment web1 emu-serial-1
eventually 30 attachment web2 emu-serial-2
equal "the nodes" "$(nodes | cut -d' ' -f1)" "$names"
for guest in web1 web2; do
    vusbctl run --guest $guest -- lu-serial echo || fail "$guest's device doesn't work after the restart"
done
