# SPDX-License-Identifier: Apache-2.0
# lib.sh: what the guest half of a case may use. Read by /init with busybox's shell; a failed check ends the case.

set -u

note() { echo "-- $*"; }

# Also from within $(…) and from a background job, which end alone then: finish sees that there was a failure.
fail() {
    echo "FAILED: $*" >/dev/console
    touch /run/failed
    exit 1
}

# host STEP [ARG…]: has the host half run step_STEP, waits for it, prints what it answers.
host() {
    echo "DO $*" >&8
    read -r host_verdict host_answer <&8 || fail "the host went away during step $1"
    [ "$host_verdict" = OK ] || fail "step $1 failed on the host: $host_answer"
    [ -z "$host_answer" ] || echo "$host_answer"
}

# eventually SECONDS COMMAND…: waits until the command succeeds; a condition with a deadline, not a pause. The deadline
# is for an idle machine: a busy one, under software emulation, gets four times as long.
eventually() {
    eventually_end=$(($(cut -d. -f1 /proc/uptime) + 4 * $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(cut -d. -f1 /proc/uptime)" -lt $eventually_end ] || fail "did not come true in time: $*"
        usleep 50000
    done
}

# has_ended PID: gone, or a child that nobody has waited for yet, which has no command line any more.
has_ended() { ! grep -q . "/proc/$1/cmdline"; }

# ending PID: waits for a child as `wait` does, but not for ever.
ending() {
    eventually 30 has_ended "$1"
    wait "$1"
}

# equal WHAT ACTUAL EXPECTED
equal() { [ "$2" = "$3" ] || fail "$1: got '$2', expected '$3'"; }

# refused TEXT COMMAND…: the command must fail, and say TEXT (a regular expression).
refused() {
    refused_text=$1
    shift
    refused_output=$("$@" 2>&1) && fail "succeeded although it must be refused: $*"
    echo "$refused_output" | grep -qiE "$refused_text" || fail "$*: said '$refused_output', expected '$refused_text'"
}

# fails_with ERRNO COMMAND…: a program of Tests/VM/programs must end with that error, which it prints by name.
fails_with() {
    fails_errno=$1
    shift
    fails_output=$("$@" 2>&1 >/dev/null) && fail "succeeded, expected $fails_errno: $*"
    echo "$fails_output" | grep -qw "$fails_errno" || fail "$*: said '$fails_output', expected $fails_errno"
}

# ---- devices on this kernel

# usb_device VID PID: the bus-port path of the device.
usb_device() {
    for usb_directory in /sys/bus/usb/devices/*; do
        [ "$(cat "$usb_directory/idVendor" 2>/dev/null)" = "$1" ] || continue
        [ "$(cat "$usb_directory/idProduct" 2>/dev/null)" = "$2" ] || continue
        echo "${usb_directory##*/}" && return 0
    done
    return 1
}

# wait_device VID PID: waits until the kernel has enumerated it and its node is there, prints its path.
wait_device() {
    eventually 30 usb_device "$1" "$2"
    wait_id=$(usb_device "$1" "$2")
    eventually 10 usb_node "$wait_id"
    echo "$wait_id"
}

# usb_node PATH: its device node.
usb_node() {
    usb_node_file=$(printf '/dev/bus/usb/%03d/%03d' "$(cat "/sys/bus/usb/devices/$1/busnum")" \
        "$(cat "/sys/bus/usb/devices/$1/devnum")")
    [ -c "$usb_node_file" ] && echo "$usb_node_file"
}

# driver_of PATH INTERFACE: the driver that the kernel has bound, or `none`.
driver_of() {
    driver_link=/sys/bus/usb/devices/$1:1.$2/driver
    if [ -e "$driver_link" ]; then basename "$(readlink "$driver_link")"; else echo none; fi
}
is_bound_to() { [ "$(driver_of "$1" "$2")" = "$3" ]; }

# ---- vusbd

vusbd_pid=

# start_vusbd [OPTION…]: returns when vusbd has said READY=1.
start_vusbd() {
    rm -f /run/notify
    notified /run/notify 60 >/tmp/notified &
    start_waiter=$!
    eventually 5 test -S /run/notify
    NOTIFY_SOCKET=/run/notify vusbd "$@" >>/tmp/vusbd.log 2>&1 8>&- &
    vusbd_pid=$!
    # Should vusbd end before it is ready, there is nothing to wait for.
    (
        while kill -0 $vusbd_pid 2>/dev/null; do usleep 100000; done
        kill $start_waiter 2>/dev/null
    ) 8>&- &
    wait $start_waiter || fail "vusbd did not become ready: $(tail -5 /tmp/vusbd.log)"
    watch_events
}

# stop_vusbd: SIGTERM; it must end with 0, take its mount with it and leave no socket in the way.
stop_vusbd() {
    [ -n "$vusbd_pid" ] || return 0
    kill -TERM "$vusbd_pid" || fail "vusbd is gone already"
    ending "$vusbd_pid"
    equal "exit status of vusbd" $? 0
    vusbd_pid=
    ! grep -q ' /vusb ' /proc/mounts || fail "/vusb is still mounted after vusbd's end"
}

# kill_vusbd: SIGKILL, no farewell.
kill_vusbd() {
    kill -KILL "$vusbd_pid" || fail "vusbd is gone already"
    wait "$vusbd_pid"
    vusbd_pid=
}

# watch_events: keeps the daemon's events in /tmp/events, one JSON object a line, from now on.
watch_events() {
    : >/tmp/events
    vusbctl watch --json >>/tmp/events 2>/dev/null 8>&- &
}

# had_event TYPE [KEY VALUE]: whether such an event has come since watch_events.
had_event() {
    jq -e -n --arg type "$1" --arg key "${2:-type}" --arg value "${3:-$1}" \
        '[inputs | select(.type == $type and (.[$key] | tostring) == $value)] | length > 0' /tmp/events
}

# knows_device ID [STATE]: whether vusbd lists it (in that state).
knows_device() {
    vusbctl devices --json | jq -e --arg id "$1" --arg state "${2:-}" \
        'map(select(.id == $id and ($state == "" or .state == $state))) | length == 1'
}

# wait_known ID [STATE]
wait_known() { eventually 30 knows_device "$@"; }

# attachment GUEST DEVICE: the directory of the device in the guest's tree.
attachment() {
    attachment_path=$(vusbctl guests --json | jq -r --arg guest "$1" --arg device "$2" \
        '.[] | select(.name == $guest) | .attachments[] | select(.device == $device) | .path')
    [ -n "$attachment_path" ] || return 1
    echo "/vusb/guests/$1/devices/$attachment_path"
}

# make_guest NAME: declared and loaded.
make_guest() {
    vusbctl guest add "$1" >/dev/null || fail "guest add $1"
    vusbctl load "$1" >/dev/null || fail "load $1"
}

# lend DEVICE GUEST: attaches, prints the device's directory in the guest's tree.
lend() {
    vusbctl attach "$1" "$2" >/dev/null || fail "attach $1 $2"
    attachment "$2" "$1" || fail "$1 is attached but not listed at $2"
}

idle() { vusbctl status --json | jq -e '.urbsInFlight == 0'; }

# finish: what must hold at the end of every case. Called by /init.
finish() {
    [ ! -e /run/failed ] || exit 1
    [ -n "$vusbd_pid" ] || return 0
    eventually 10 idle
    stop_vusbd
    [ "$(ls /vusb | wc -l)" -eq 0 ] || fail "/vusb isn't empty after vusbd's end"
}
