#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# run-case.sh CASE@KERNEL IMAGE-DIR WORK-DIR LOG: boots the guest for one case, does the steps that it asks for, and
# ends with 0 only if the guest reported success and the kernel had nothing to complain about. Called by run.sh.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=${1%@*} kernel=6.1 label=${1%@6.1} image=$2 work=$3 log=$4
[[ $1 != *@* ]] || kernel=${1#*@}
case_directory=${VUSB_CASES:-$here/../cases}/$name
root=$(cd "$here/../../.." && pwd)
VUSBD=${VUSBD:-$root/.build-release/release/vusbd}
VUSBCTL=${VUSBCTL:-$root/.build-release/release/vusbctl}
# mkfs.vfat and mke2fs lie there.
PATH=$PATH:/usr/sbin:/sbin

# A case's host half may set these, and define prepare, step_NAME and verify; README.md explains them.
qemu_arguments=()
time_limit=240
memory=1024
daemon=guest
share=virtiofs
virtiofsd_options=(--thread-pool-size=4)
kernel_arguments=
modules_directory=$image/modules
# How much longer all may take: for a kernel that looks into everything it does, or a machine that is very busy.
time_factor=${VUSB_TIME_FACTOR:-1}
[[ $kernel != *-debug ]] || time_factor=${VUSB_TIME_FACTOR:-4}
# Whether the guest's reboot ends QEMU.
reboots=no
power_off_limit=20
prepare() { :; }
verify() { :; }
. "$here/lib.sh"
[[ ! -f $case_directory/host.sh ]] || . "$case_directory/host.sh"
time_limit=$((time_limit * time_factor))
power_off_limit=$((power_off_limit * time_factor))

# With vusbd on this machine, mounts that nobody else sees and that end with the case.
if [[ $daemon == host && -z ${VUSB_VM_NAMESPACE:-} ]]; then
    export VUSB_VM_NAMESPACE=1
    exec unshare --mount --propagation private -- "$0" "$@"
fi

started=$EPOCHREALTIME
elapsed() { awk -v a="$started" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }

helpers=()
qemu_pid=
vusbd_pid=
# By process id only, and QEMU after the helpers: one may be connected to it. A stopped process takes no other signal.
clean_up() {
    local pid
    for pid in "${helpers[@]}" $qemu_pid $vusbd_pid; do kill "$pid" 2>/dev/null; kill -CONT "$pid" 2>/dev/null; done
    for pid in "${helpers[@]}" $qemu_pid $vusbd_pid; do wait "$pid" 2>/dev/null; done
}
trap clean_up EXIT
trap 'exit 143' TERM INT

conclude() {
    if [[ -z $1 ]]; then
        echo "ok   vm/$label ($(elapsed) s)"
        exit 0
    fi
    echo "FAIL vm/$label ($(elapsed) s): $1"
    echo "     last lines of $log:"
    tail -n 40 "$log" | sed 's/^/     | /'
    [[ ! -s $work/steps.log ]] || { echo "== steps on the host"; cat "$work/steps.log"; } >>"$log"
    if [[ -s $work/vusbd.log ]]; then
        { echo "== vusbd's log on the host"; cat "$work/vusbd.log"; } >>"$log"
        echo "     last lines of vusbd's log on the host:"
        tail -n 20 "$work/vusbd.log" | sed 's/^/     | /'
    fi
    exit 1
}

start_qemu() {
    qemu-system-x86_64 "${qemu_base[@]}" "${qemu_arguments[@]}" >>"$work/qemu.log" 2>&1 5>&- 6>&- &
    qemu_pid=$!
}

boot() {
    local initrd=initrd.img
    local case_arguments="vusb.case=$name vusb.limit=$time_limit vusb.factor=$time_factor"
    if [[ $daemon == host ]]; then
        initrd=initrd-guest.img
    else
        qemu_arguments=(-device qemu-xhci,id=xhci,p2=15,p3=15 "${qemu_arguments[@]}")
    fi
    [[ $reboots == yes ]] || qemu_arguments+=(-no-reboot)
    # no_timer_check: where this machine is busy, the timer may tick too late for the kernel's look at it, which panics.
    qemu_base=(
        -machine q35,accel=tcg,i8042=off -cpu "${VUSB_CPU:-max}" -smp 2 -m "$memory" -nodefaults -no-user-config -display none
        -kernel "$image/$kernel/vmlinuz" -initrd "$image/$kernel/$initrd"
        -append "console=ttyS0 loglevel=5 panic=-1 no_timer_check preempt=full rdinit=/init $case_arguments $kernel_arguments"
        -chardev "file,id=console,path=$log,append=on" -serial chardev:console -qmp "unix:$work/qmp,server=on,wait=off"
        -device virtio-serial-pci -chardev "pipe,id=sync,path=$work/sync"
        -device virtserialport,chardev=sync,name=vusb.sync
    )
    mkfifo "$work/sync.in" "$work/sync.out"
    # Opened both ways so that no open waits for the other side. QEMU's `in` is what the guest reads.
    exec 5<>"$work/sync.out" 6<>"$work/sync.in"
    start_qemu
}

# Words of a kernel that found something wrong with itself.
complaints='BUG:|WARNING: |Oops|general protection fault|Kernel panic|KASAN|UBSAN|hung_task|blocked for more than'
complaints+='|possible (circular|recursive|irq) |inconsistent lock state|suspicious RCU usage|sleeping function|scheduling while'
complaints+='|rcu.*(stall|detected expedited|kthread starved)|soft lockup|hard LOCKUP|NMI watchdog|page allocation failure'
complaints+='|refcount_t|list_(add|del) corruption|use-after-free|unable to handle|DEBUG_LOCKS_WARN|Out of memory'
complaints+='|Call Trace:|already present!|register non-static key|ODEBUG: '

# Does one step for the guest: `step_NAME ARG…`, whose standard output is the answer. In this shell, so that a step may
# start and end processes and keep things in variables.
do_step() {
    local step=$1 is_answered=
    shift
    if ! declare -F "step_$step" >/dev/null; then
        echo "FAIL the host half has no step $step" >&6
    elif "step_$step" "$@" >"$work/answer" 2>>"$work/steps.log"; then
        [[ -n $is_answered ]] || echo "OK $(tr '\n' ' ' <"$work/answer")" >&6
    else
        echo "FAIL $(tail -n 1 "$work/steps.log" 2>/dev/null)" >&6
    fi
}

# Serves the guest until it reports; sets `reported` to its status or leaves it empty.
serve() {
    local line= piece is_gone= deadline=$((SECONDS + time_limit))
    reported=
    while ((SECONDS < deadline)); do
        # What has come of a line when the second is over is its beginning.
        if IFS= read -r -t 1 piece <&5; then
            line+=$piece
            case $line in
                "DO "*) read -ra words <<<"${line#DO }"; do_step "${words[@]}" ;;
                "RESULT "*) reported=${line#RESULT }; return ;;
            esac
            line=
        elif [[ -n $is_gone ]]; then
            return
        else
            line+=$piece
            # Its last line may have come since.
            kill -0 "$qemu_pid" 2>/dev/null || is_gone=yes
        fi
    done
}

# Waits for QEMU to end by itself after the guest's report.
wait_power_off() {
    local deadline=$((SECONDS + power_off_limit))
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
complaint=$(grep -m1 -aE "$complaints" "$log")
if [[ $reported != 0 ]]; then
    reason=$(grep -a '^FAILED: ' "$log" | tail -n 1 | tr -d '\r')
    conclude "${reason:-ended with status $reported}"
fi
[[ -z $complaint ]] || conclude "the kernel complained: $complaint"
if [[ $daemon == host ]]; then
    # The guest is off: nothing of it may be left here.
    { [[ -z $vusbd_pid ]] || { eventually 2 host_idle && stop_vusbd; }; } 2>"$work/verify.log" ||
        conclude "$(tail -n 1 "$work/verify.log")"
fi
verify >"$work/verify.log" 2>&1 || conclude "$(tail -n 1 "$work/verify.log")"
conclude ""
