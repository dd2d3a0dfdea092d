# SPDX-License-Identifier: Apache-2.0
# A gadget whose endpoint stalls without end, and one that comes and goes all the time, are kept from all guests, and a third
# beside them is read all the while without an error. Trust, or a replug, ends it.
. /vm/gadget.sh
gadget_controllers 3
for n in 0 1 2; do
    gadget_create zero$n 0525 a4a0 ZERO$n
    gadget_function zero$n SourceSink.0 pattern=1
    gadget_plug zero$n $n
done
eventually 30 with_serial ZERO0
eventually 30 with_serial ZERO1
eventually 30 with_serial ZERO2
bad=$(with_serial ZERO0) good=$(with_serial ZERO1) storm=$(with_serial ZERO2)
cat >/tmp/vusb.yaml <<END
health: {stalls: 300 in 60s, disconnects: 8 in 60s, calm: 3600s}
guests:
  web1: {load: true, devices: [$bad]}
  web2: {load: true, devices: [$good]}
  web3: {load: true, devices: [$storm]}
END
start_vusbd --config /tmp/vusb.yaml
for device in $bad $good $storm; do wait_known "$device" attached; done
node() { echo "$(attachment "$1" "$2")/ep/81"; }
pattern "$(node web2 "$good")" 4096 512 >/tmp/read.good 2>/tmp/wrong 8>&- &
healthy=$!
began=$(cut -d. -f1 /proc/uptime)

note "endless stalls"
control="$(attachment web1 "$bad")/ep/00"
# SET_FEATURE(ENDPOINT_HALT) on 0x81: it stalls until somebody clears it.
urb control "$control" 0203000081000000 || fail "SET_FEATURE"
pattern "$(node web1 "$bad")" 512 512 >/tmp/read.bad 2>&1 8>&- &
stalling=$!
wait_known "$bad" quarantined
eventually 10 had_event device-quarantined device "$bad"
kill $stalling
ending $stalling || fail "the reader of the bad one: $(cat /tmp/read.bad)"
note "the guest that had it: $(cat /tmp/read.bad)"
grep -qE 'EPIPE (3[0-9][0-9]|29[0-9])' /tmp/read.bad || fail "it wasn't 300 stalls"
[ ! -e "/vusb/guests/web1/devices/1-1" ] || fail "web1 has it yet"
api devices | jq -r --arg id "$bad" '.[] | select(.id == $id) | .reason' | grep -qi stall || fail "no reason is said"
refused "quarantine" vusbctl attach "$bad" web2

note "one that comes and goes"
for n in $(seq 8); do
    gadget_unplug zero2
    gadget_plug zero2 2
    eventually 20 with_serial ZERO2
done
wait_known "$storm" quarantined

note "the healthy one beside them"
kill $healthy
ending $healthy || fail "the healthy one: $(cat /tmp/wrong)"
note "$(cat /tmp/read.good) in $(($(cut -d. -f1 /proc/uptime) - began)) s"
equal "what its reader saw but whole reads" "$(sed 's/whole [1-9][0-9]*//; s/ EINTR 1//' /tmp/read.good)" ""

note "trust, and a replug"
vusbctl trust "$bad" >/dev/null || fail "trust"
wait_known "$bad" attached
control="$(attachment web1 "$bad")/ep/00"
urb control "$control" 0201000081000000 || fail "CLEAR_FEATURE"
urb read "$(node web1 "$bad")" 512 >/dev/null || fail "it doesn't work after that"
vusbctl trust "$storm" >/dev/null || fail "trust of the port"
wait_known "$storm" attached
urb read "$(node web3 "$storm")" 512 >/dev/null || fail "the one that came and went doesn't work after that"
for guest in web1 web2 web3; do vusbctl unload $guest >/dev/null || fail "unload $guest"; done
