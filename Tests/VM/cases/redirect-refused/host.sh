# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
# Without a USB controller, at first.
prepare() {
    qemu_arguments+=(-device pcie-root-port,id=root,slot=1)
    start_vusbd --emulate serial --emulate keyboard && plain_vm vm1
}
# A controller with two ports, one of them taken.
step_plug_controller() {
    plug qemu-xhci id=xhci bus=root p2=2 p3=1 && plug usb-tablet id=tablet bus=xhci.0 port=1
}
step_unplug() { unplug "$1"; }
step_mode() { ctl guests --json | jq -r '.[0].loadedMode'; }
step_refused_busy() {
    local status=0
    ctl "$@" 2>&1 || status=$?
    ((status == 4)) || { echo "vusbctl $* ended with $status" >&2; return 1; }
}
# frozen STATUS ARG…: vusbctl while QEMU stands still must end so, in bounded time. Returns when QEMU has caught up.
step_frozen() {
    local status=0 started=$SECONDS
    kill -STOP "$qemu_pid"
    ctl "${@:2}" >frozen 2>&1 || status=$?
    kill -CONT "$qemu_pid"
    qmp query-status >/dev/null
    ((status == $1)) || { echo "vusbctl ${*:2} ended with $status: $(tail -n 1 frozen)" >&2; return 1; }
    ((status == 0)) || grep -q -- '--cancel' frozen || { echo "no remedy: $(tail -n 1 frozen)" >&2; return 1; }
    ((SECONDS - started <= 20 * time_factor)) || { echo "that took $((SECONDS - started)) s" >&2; return 1; }
}
step_plugged() {
    { qmp query-chardev; qmp qom-list path=/machine/peripheral; } | { grep -o '"vusb-[^"]*"' || true; } | wc -l
}
step_eventually_plugged() { eventually 10 has_plugged "$1"; }
has_plugged() { [[ $(step_plugged) == "$1" ]]; }
