# SPDX-License-Identifier: Apache-2.0
# Ten guests at once, each with a program at work on its own device; by its view and by mode, nobody has another's.
modprobe cuse
{
    echo 'emulate: ["zero,pattern=mod63,count=10"]'
    echo 'guests:'
    for n in 1 2 3 4 5 6 7 8 9 10; do
        echo "  guest$n: {nodes: true, load: true, owner: alice, devices: [emu-zero-$n]}"
    done
} >/tmp/vusb.yaml
start_vusbd --config /tmp/vusb.yaml
all_attached() { api status | jq -e '.attachments == 10'; }
eventually 10 all_attached

for n in 1 2 3 4 5 6 7 8 9 10; do
    # It fails where it sees more than one such device.
    vusbctl run --guest "guest$n" -- lu-zero 64 >"/tmp/ten.$n" 2>&1 8>&- &
    eval "program_$n=$!"
done
for n in 1 2 3 4 5 6 7 8 9 10; do
    eval "ending \$program_$n" || fail "guest$n: $(cat "/tmp/ten.$n")"
done
cat /tmp/ten.1
api devices | jq -r '.[] | select(.id | startswith("emu-zero-")) | .id + " serial " + .serial' |
    sed 's/^emu-zero-//' | sort >/tmp/expected
grep -H ^serial /tmp/ten.* | sed 's/^\/tmp\/ten\.\([0-9]*\):/\1 /' | sort >/tmp/seen
diff /tmp/expected /tmp/seen || fail "a guest has had another's device"
equal "serial numbers" "$(cut -d' ' -f3 /tmp/seen | sort -u | wc -l)" 10

note "another guest's nodes aren't in a program's view"
numbers_in() { vusbctl run --guest "$1" -- stat -c %t:%T /dev/bus/usb/001/002; }
equal "guest1's node, in its view" "$(numbers_in guest1)" "$(stat -c %t:%T /vusb/guests/guest1/dev/bus/usb/001/002)"
equal "guest2's node, in its view" "$(numbers_in guest2)" "$(stat -c %t:%T /vusb/guests/guest2/dev/bus/usb/001/002)"
equal "nodes with numbers of their own" "$(stat -c %t:%T /vusb/guests/*/dev/bus/usb/001/002 | sort -u | wc -l)" 10

note "and mode and owner keep them from others"
for node in /vusb/guests/guest1/dev/bus/usb/001/*; do
    equal "owner and mode of $node" "$(stat -c '%U %a' "$node")" "alice 600"
    refused 'denied' su bob -s /bin/sh -c "exec 3<>$node"
done
su alice -s /bin/sh -c "exec 3<>$node" || fail "alice can't open her own $node"
