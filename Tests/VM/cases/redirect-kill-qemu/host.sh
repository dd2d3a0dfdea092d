# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
reboots=yes
prepare() {
    random_file disk.img 16777216
    qemu_arguments+=(-device qemu-xhci,id=xhci)
    start_vusbd --emulate "disk=$work/disk.img" --emulate serial && plain_vm vm1 --device emu-disk --device emu-serial
}

# Whatever a lost guest held is free: nothing in flight, nobody has the devices, nothing listens for it.
is_clean() {
    ctl guests --json | jq -e '.[0] | .state == "waiting" and (.attachments | length) == 0' && host_idle &&
        [[ -z $(sockets) ]]
}
sockets() { find "$work" -type s -name 'vm1-*'; }

has_both() {
    ctl guests --json |
        jq -e '.[0] | .state == "loaded" and .machine == "paused" and (.attachments | length) == 2'
}

# The guest's power cord is pulled: nothing may be left here after 2 seconds. Then there is such a machine again, which
# waits for its start (-S), and has its devices before that.
step_kill_qemu() {
    kill -KILL "$qemu_pid"
    wait "$qemu_pid"
    local end=$((${EPOCHREALTIME/./} + 2000000))
    until is_clean >/dev/null 2>&1; do
        ((${EPOCHREALTIME/./} < end)) || { echo "not clean after 2 s: $(ctl guests --json)" >&2; return 1; }
        sleep 0.05
    done
    qemu_base+=(-S)
    start_qemu
    eventually 10 has_both && qmp cont || return
    # Who asked is no more.
    is_answered=yes
}
boots=0
step_boots() { echo $((++boots)); }
