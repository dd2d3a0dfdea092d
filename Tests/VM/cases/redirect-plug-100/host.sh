# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
prepare() {
    random_file disk.img 8388608
    qemu_arguments+=(-device qemu-xhci,id=xhci,p2=6,p3=6)
    start_vusbd --emulate "disk=$work/disk.img" --emulate serial --emulate keyboard && plain_vm vm1 --device emu-serial
}

# What vusbd has: descriptors, threads, MiB.
used() {
    echo "$(ls "/proc/$vusbd_pid/fd" | wc -l) $(ls "/proc/$vusbd_pid/task" | wc -l)" \
        "$(awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$vusbd_pid/status")"
}

# Lends the disk and takes it away, so many times, each when the guest reads from it.
step_rounds() {
    local round
    for ((round = 0; round < $1; round++)); do
        ctl attach emu-disk vm1 && eventually 5 is_read && ctl detach emu-disk --deadline 0s --cancel || return
    done
}
is_read() { ctl status --json | jq -e '.attached[] | select(.device == "emu-disk") | .bytesIn > 65536'; }
# The same, while the guest hasn't yet found out what it is; another one now and then.
step_brief_rounds() {
    local round
    for ((round = 0; round < $1; round++)); do
        ctl attach emu-disk vm1 || return
        ((round % 10)) || { ctl attach emu-keyboard vm1 && ctl detach emu-keyboard --deadline 0s --cancel; } || return
        ctl detach emu-disk --deadline 0s --cancel || return
    done
}
step_remember() {
    used >before
    cat before
}
# Descriptors and threads are as many as before; some come and go with requests. Memory has stopped to grow.
step_settled() { eventually 10 has_settled && used; }
has_settled() {
    local before after
    read -ra before <before
    read -ra after < <(used)
    ((after[0] <= before[0] && after[1] <= before[1] + 2 && after[2] <= before[2] + 16))
}
step_leftovers() {
    qmp query-chardev | grep -o '"vusb-[^"]*"'
    qmp qom-list path=/machine/peripheral | grep -o '"vusb-[^"]*"'
    ls "$work/redirect" 2>/dev/null
    return 0
}
