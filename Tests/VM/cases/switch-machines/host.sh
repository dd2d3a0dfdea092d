# SPDX-License-Identifier: Apache-2.0
. "$(dirname "${BASH_SOURCE[0]}")/../../host/two.sh"
daemon=host
memory=768
time_limit=600
prepare() {
    truncate -s 160M disk.img
    mkfs.vfat -n VUSB disk.img
    qemu_arguments+=(-device qemu-xhci,id=xhci)
    start_vusbd --emulate "disk=$work/disk.img" --emulate serial --emulate keyboard && plain_vm vm1 && second_machine
}

step_begin_switch() { background ctl switch emu-disk vm2 --on-deadline wait >switch.log 2>&1; switch_pid=${helpers[-1]}; }
step_end_switch() {
    local status=0
    wait "$switch_pid" || status=$?
    ((status == 0)) || { echo "switch ended with $status: $(tail -n 2 switch.log)" >&2; return 1; }
    grep -q 'waiting for emu-disk' switch.log || { echo "it didn't wait: $(cat switch.log)" >&2; return 1; }
}

has_three() {
    ctl guests --json | jq -e --arg name "$1" '.[] | select(.name == $name) | .attachments | length == 3'
}
step_three() { eventually "$2" has_three "$1"; }
# The second one's power cord is pulled. Prints the milliseconds until the first one has its three devices.
step_kill_second() {
    local began=${EPOCHREALTIME/./}
    kill -KILL "$second_pid"
    until has_three vm1 >/dev/null 2>&1; do
        ((${EPOCHREALTIME/./} - began < 20000000)) || { echo "not there: $(ctl guests --json)" >&2; return 1; }
        sleep 0.05
    done
    echo $(((${EPOCHREALTIME/./} - began) / 1000))
}
