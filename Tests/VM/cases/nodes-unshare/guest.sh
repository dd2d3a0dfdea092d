# SPDX-License-Identifier: Apache-2.0
# Containers without an engine, made by unshare as the README says: with the host's own files and with a root of their
# own. Programs see their guest's devices, are told what comes and goes, and when they end the guest is unloaded.
. /vm/containers.sh
modprobe cuse
start_vusbd --emulate zero,pattern=mod63 --emulate serial --emulate keyboard --emulate serial,name=late
containers_ready
vusbctl guest add web1 --nodes --device emu-zero --device emu-serial >/dev/null || fail "guest add web1"
vusbctl guest add web2 --nodes --device emu-keyboard >/dev/null || fail "guest add web2"
vusbctl load web2 >/dev/null || fail "load web2"
# What can be seen from there and may go where the recipe has `lsusb -t`.
instead_of_lsusb() { echo "s|lsusb -t\$|$1|"; }

# shown RECIPE: it shows web1's two devices and a root hub; then web1 is unloaded, and no other guest is.
shown() {
    note "the README's recipe $1"
    recipe "$1" >/tmp/tree
    cat /tmp/tree
    equal "what web1 has" "$(grep -o 'Dev [0-9]*' /tmp/tree | sort -u | wc -l)" 3
    eventually 10 is_guest web1 unloaded
    is_guest web2 loaded || fail "web2 isn't loaded any more"
}

shown unshare
recipe unshare "$(instead_of_lsusb "lu-serial echo")"
eventually 10 is_guest web1 unloaded
shown unshare-root

note "what comes and goes"
recipe unshare-root "$(instead_of_lsusb "/root/lu-plug 4")" >/tmp/plug 2>/tmp/plug.error &
plug=$!
eventually 20 grep -q listening /tmp/plug
vusbctl attach emu-late web1 >/dev/null || fail "attach"
eventually 10 grep -q '^+ 0525:a4a7 1.4' /tmp/plug
vusbctl detach emu-late >/dev/null || fail "detach"
ending $plug || fail "lu-plug: $(cat /tmp/plug.error)"
equal "what was told" "$(sed '1,/listening/d' /tmp/plug | tr '\n' ';')" "+ 0525:a4a7 1.4;- 0525:a4a7 1.4;"
eventually 10 is_guest web1 unloaded

note "killed with 32 transfers in flight"
recipe unshare-root "$(instead_of_lsusb "/root/lu-serial hold")" >/tmp/hold 2>&1 &
eventually 20 grep -q held /tmp/hold
eventually 10 in_flight emu-serial 32
kill -KILL "$(pidof lu-serial)"
eventually 10 is_guest web1 unloaded
idle >/dev/null || fail "transfers are in flight yet: $(vusbctl status --json)"
recipe unshare-root "$(instead_of_lsusb "/root/lu-serial echo")"
vusbctl unload web2 >/dev/null || fail "unload web2"
containers_done
