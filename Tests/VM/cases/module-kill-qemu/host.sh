# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
prepare() {
    random_file disk.img 67108864
    start_vusbd --emulate "disk=$work/disk.img" --emulate serial && vm vm1 --device emu-disk --device emu-serial
}

# Whatever a lost guest held is free: nothing in flight, and its channel closed.
is_clean() {
    ctl guests --json | jq -e '.[0] | .state == "waiting" and .channel.state != "open" and (.channel.urbsInFlight // 0) == 0' &&
        host_idle
}

# The guest's power cord is pulled: nothing may be left here after 2 seconds. Then it is switched on again.
boots=1
step_kill_qemu() {
    kill -KILL "$qemu_pid"
    wait "$qemu_pid"
    local end=$((${EPOCHREALTIME/./} + 2000000))
    until is_clean >/dev/null 2>&1; do
        ((${EPOCHREALTIME/./} < end)) || { echo "not clean after 2 s: $(ctl guests --json)" >&2; return 1; }
        sleep 0.05
    done
    boots=$((boots + 1))
    start_virtiofsd
    start_qemu
    # Who asked is no more.
    is_answered=yes
}
step_boots() { echo $boots; }
