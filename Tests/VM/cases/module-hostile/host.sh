# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
prepare() {
    start_vusbd --emulate zero,name=bad --emulate zero,name=good,pattern=mod63 && vm vm1 --device emu-bad || return
    # The neighbour: a guest on this machine that reads from its device all the time.
    ctl guest add neighbour --device emu-good && ctl load neighbour --mode files
}

# The neighbour's reader: each read must be the pattern, and none may fail. Ends when the file stop is there.
neighbour() {
    local packet count=0 file
    file=$(echo "$work"/vusb/guests/neighbour/devices/*/ep/81)
    # Byte i of each packet of 512 is i mod 63.
    python3 -c 'import sys; sys.stdout.buffer.write(bytes(i % 512 % 63 for i in range(65536)))' >expected
    while [[ ! -e stop ]]; do
        dd if="$file" bs=65536 count=8 2>>neighbour.log | cmp - <(cat expected{,,,,,,,}) 2>>neighbour.log || return 1
        count=$((count + 8))
    done
    echo $count >neighbour.count
}
step_neighbour_begins() {
    neighbour 5>&- 6>&- &
    neighbour_pid=$!
}
step_neighbour_ends() {
    touch stop
    wait "$neighbour_pid" || { echo "the neighbour's reads went wrong: $(tail -n 2 neighbour.log)" >&2; return 1; }
    cat neighbour.count
}
step_answers() { ctl status >/dev/null; }
# Its memory, in MiB.
step_memory() { awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$vusbd_pid/status"; }
