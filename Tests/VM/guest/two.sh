# SPDX-License-Identifier: Apache-2.0
# two.sh: the guest's half of host/two.sh.

# role: `second` in the second machine, nothing in the first.
role=$(sed -n 's/.*vusb\.role=\([a-z]*\).*/\1/p' /proc/cmdline)

# start_for_second [OPTION…]: vusbd, with the second machine as its guest `second`.
start_for_second() {
    work=$(sed -n 's/.*vusb\.work=\([^ ]*\).*/\1/p' /proc/cmdline)
    mkdir -p "$work"
    export VUSB_SOCKET="$work/vusb.sock"
    start_vusbd --socket "$VUSB_SOCKET" "$@"
    eventually 10 serial_port second.qmp
    socat "UNIX-LISTEN:$work/second.qmp" "OPEN:$(serial_port second.qmp)" 8>&- &
    eventually 10 test -S "$work/second.qmp"
    vusbctl guest add second --connector qemu --qmp "$work/second.qmp" --mode redirect >/dev/null || fail "guest add"
    vusbctl load second || fail "load"
}

# is_plugged PORT: whether the other side of a wire is there.
is_plugged() { grep -q '^host_connected: 1' "/sys/kernel/debug/virtio-ports/$(basename "$1")"; }

# bridge WIRE ADDRESS: joins a wire to a socket as soon as the second machine's QEMU is at its other end. Sets bridge_pid.
bridge() {
    eventually 10 serial_port "$1"
    bridge_port=$(serial_port "$1")
    (
        until is_plugged "$bridge_port"; do usleep 20000; done
        exec socat -b 131072 "OPEN:$bridge_port" "$2"
    ) 8>&- &
    bridge_pid=$!
}

# lend_to_second NUMBER DEVICE: attaches; it's the Nth device of the guest.
lend_to_second() {
    bridge "second.$1" "UNIX-CONNECT:$work/redirect/second-1-$1"
    vusbctl attach "$2" second || fail "attach $2"
}
