#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# run-case.sh CASE IMAGE-DIR WORK-DIR LOG: boots the guest for one case, does the steps that it asks for, and ends
# with 0 only if the guest reported success and the kernel had nothing to complain about. Called by run.sh.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=$1 image=$2 work=$3 log=$4
case_directory=$here/../cases/$name

# A case's host half may set these, and define prepare, step_NAME and verify.
qemu_arguments=()
time_limit=240
prepare() { :; }
verify() { :; }
. "$here/lib.sh"
[[ ! -f $case_directory/host.sh ]] || . "$case_directory/host.sh"

started=$EPOCHREALTIME
elapsed() { awk -v a="$started" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }

helpers=()
qemu_pid=
# By process id only, and QEMU last: a helper may be connected to it.
clean_up() {
    local pid
    for pid in "${helpers[@]}" $qemu_pid; do kill "$pid" 2>/dev/null; done
    for pid in "${helpers[@]}" $qemu_pid; do wait "$pid" 2>/dev/null; done
}
trap clean_up EXIT
trap 'exit 143' TERM INT

conclude() {
    if [[ -z $1 ]]; then
        echo "ok   vm/$name ($(elapsed) s)"
        exit 0
    fi
    echo "FAIL vm/$name ($(elapsed) s): $1"
    echo "     last lines of $log:"
    tail -n 40 "$log" | sed 's/^/     | /'
    exit 1
}

boot() {
    mkfifo "$work/sync.in" "$work/sync.out"
    # Opened both ways so that no open waits for the other side. QEMU's `in` is what the guest reads.
    exec 5<>"$work/sync.out" 6<>"$work/sync.in"
    qemu-system-x86_64 -machine q35,accel=tcg,i8042=off -cpu max -smp 2 -m 1024 -nodefaults -no-user-config \
        -display none -no-reboot -kernel "$image/vmlinuz" -initrd "$image/initrd.img" \
        -append "console=ttyS0 loglevel=5 panic=-1 preempt=full rdinit=/init vusb.case=$name" \
        -serial "file:$log" -qmp "unix:$work/qmp,server=on,wait=off" \
        -device virtio-serial-pci -chardev "pipe,id=sync,path=$work/sync" -device virtserialport,chardev=sync,name=vusb.sync \
        -device qemu-xhci,id=xhci,p2=15,p3=15 "${qemu_arguments[@]}" >"$work/qemu.log" 2>&1 5>&- 6>&- &
    qemu_pid=$!
}

# Does one step for the guest: `step_NAME ARG…`, whose standard output is the answer.
do_step() {
    local step=$1 answer
    shift
    if ! declare -F "step_$step" >/dev/null; then
        echo "FAIL the host half has no step $step" >&6
    elif answer=$("step_$step" "$@" 2>>"$work/steps.log"); then
        echo "OK ${answer//$'\n'/ }" >&6
    else
        echo "FAIL $(tail -n 1 "$work/steps.log" 2>/dev/null)" >&6
    fi
}

# Serves the guest until it reports; sets `reported` to its status or leaves it empty.
serve() {
    local line deadline=$((SECONDS + time_limit))
    reported=
    while ((SECONDS < deadline)); do
        if IFS= read -r -t 1 line <&5; then
            case $line in
                "DO "*) read -ra words <<<"${line#DO }"; do_step "${words[@]}" ;;
                "RESULT "*) reported=${line#RESULT }; return ;;
            esac
        elif ! kill -0 "$qemu_pid" 2>/dev/null; then
            return
        fi
    done
}

# Waits for QEMU to end by itself after the guest's report.
wait_power_off() {
    local deadline=$((SECONDS + 20))
    while kill -0 "$qemu_pid" 2>/dev/null; do
        ((SECONDS < deadline)) || return 1
        IFS= read -r -t 0.2 <&5
    done
    return 0
}

: >"$log"
cd "$work" || exit 1
prepare >"$work/prepare.log" 2>&1 || conclude "the host half could not prepare: $(tail -n 1 "$work/prepare.log")"
boot
serve
if [[ -z $reported ]]; then
    cat "$work/qemu.log" >>"$log"
    if kill -0 "$qemu_pid" 2>/dev/null; then
        conclude "not done within $time_limit s"
    fi
    conclude "the guest ended without a report"
fi
wait_power_off || conclude "the guest did not power off"
complaint=$(grep -m1 -aE 'BUG:|WARNING: |Oops|general protection fault|Kernel panic|KASAN|hung_task|blocked for more than' "$log")
if [[ $reported != 0 ]]; then
    reason=$(grep -a '^FAILED: ' "$log" | tail -n 1 | tr -d '\r')
    conclude "${reason:-ended with status $reported}"
fi
[[ -z $complaint ]] || conclude "the kernel complained: $complaint"
verify >"$work/verify.log" 2>&1 || conclude "$(tail -n 1 "$work/verify.log")"
conclude ""
