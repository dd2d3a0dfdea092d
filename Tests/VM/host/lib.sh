# SPDX-License-Identifier: Apache-2.0
# lib.sh: what the host half of a case may use. The current folder is the case's own, removed afterwards.

# qmp COMMAND [KEY=VALUE…]: runs a QMP command of this case's QEMU.
qmp() { python3 "$here/qmp.py" "$work/qmp" "$@"; }

# unplug ID: takes the device out; returns when QEMU has let go of it.
unplug() { qmp device_del "id=$1"; }

# plug DRIVER KEY=VALUE…
plug() { qmp device_add "driver=$1" "${@:2}"; }

# keys KEY…: presses and releases each key (QEMU's key names).
keys() { python3 "$here/qmp.py" "$work/qmp" --keys "$@"; }

# background COMMAND…: a helper that is ended with the case.
background() {
    "$@" 5>&- 6>&- &
    helpers+=($!)
}

# eventually SECONDS COMMAND…: waits until the command succeeds, as in the guest.
eventually() {
    local end=$((SECONDS + 4 * time_factor * $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || { echo "did not come true in time: $*" >&2; return 1; }
        sleep 0.05
    done
}

# fat_image FILE MEBIBYTES CONTENT: a FAT file system with CONTENT as /payload.bin.
fat_image() {
    truncate -s "${2}M" "$1"
    mkfs.vfat -n VUSB "$1"
    mcopy -i "$1" "$3" ::payload.bin
}

# random_file FILE BYTES
random_file() { head -c "$2" /dev/urandom >"$1"; }

sha256() { sha256sum | cut -d' ' -f1; }

# ---- vusbd on this machine, for cases with daemon=host: mount, socket and state in the case's folder

# ctl ARG…
ctl() { "$VUSBCTL" --socket "$work/vusb.sock" "$@"; }

# start_vusbd [OPTION…]: returns when it answers. Without options: with those of the last time.
start_vusbd() {
    (($#)) && vusbd_options=("$@")
    "$VUSBD" --no-host --mount "$work/vusb" --socket "$work/vusb.sock" --state "$work/state" \
        --modules "$modules_directory" "${vusbd_options[@]}" >>"$work/vusbd.log" 2>&1 5>&- 6>&- &
    vusbd_pid=$!
    local end=$((SECONDS + 60))
    until ctl status >/dev/null 2>&1; do
        kill -0 "$vusbd_pid" 2>/dev/null || { echo "vusbd ended: $(tail -n 3 "$work/vusbd.log")" >&2; return 1; }
        ((SECONDS < end)) || { echo "vusbd doesn't answer" >&2; return 1; }
        sleep 0.05
    done
}

# kill_vusbd: SIGKILL, no farewell.
kill_vusbd() {
    kill -KILL "$vusbd_pid"
    wait "$vusbd_pid" 2>/dev/null
    vusbd_pid=
}

# stop_vusbd: SIGTERM; it must end with 0 and take its mount with it.
stop_vusbd() {
    [[ -n $vusbd_pid ]] || return 0
    local status=0
    kill -TERM "$vusbd_pid"
    wait "$vusbd_pid" || status=$?
    vusbd_pid=
    ((status == 0)) || { echo "vusbd ended with $status" >&2; return 1; }
    ! grep -q " $work/vusb " /proc/mounts || { echo "vusbd left its mount" >&2; return 1; }
}

# vm NAME [GUEST-ADD-OPTION…]: declares the guest and gives QEMU what it takes: the monitor for vusbd, the agent's port,
# and the guest's directory as the share `vusb`, by virtio-fs or, where share=9p, by 9p.
vm() {
    local name=$1
    shift
    shared_tree=$work/exports/$name
    ctl guest add "$name" --connector qemu --qmp "$work/qmp-vusbd" --agent "$work/agent" --share "$share:vusb" "$@" &&
        eventually 5 test -d "$work/vusb/guests/$name" || return
    qemu_arguments+=(
        -chardev "socket,id=monitor,path=$work/qmp-vusbd,server=on,wait=off" -mon chardev=monitor,mode=control
        -chardev "socket,id=agent,path=$work/agent,server=on,wait=off"
        -device virtserialport,chardev=agent,name=org.qemu.guest_agent.0
    )
    case $share in
        virtiofs)
            qemu_arguments+=(
                -machine memory-backend=memory
                -object "memory-backend-memfd,id=memory,size=${memory}M,share=on"
                -chardev "socket,id=fs,path=$work/fs" -device vhost-user-fs-pci,chardev=fs,tag=vusb
            )
            start_virtiofsd
            ;;
        9p)
            qemu_arguments+=(
                -fsdev "local,id=fs,path=$shared_tree,security_model=none,multidevs=remap" -device virtio-9p-pci,fsdev=fs,mount_tag=vusb
            )
            ;;
    esac
}

# plain_vm NAME [GUEST-ADD-OPTION…]: declares a guest of which vusbd has the monitor alone: no agent, no share, nothing
# of vusb in it. The USB controllers are the case's, in `qemu_arguments`.
plain_vm() {
    local name=$1
    shift
    ctl guest add "$name" --connector qemu --qmp "$work/qmp-vusbd" "$@" || return
    qemu_arguments+=(-chardev "socket,id=monitor,path=$work/qmp-vusbd,server=on,wait=off" -mon chardev=monitor,mode=control)
}

# start_virtiofsd: exports the guest's directory. It ends with QEMU.
start_virtiofsd() {
    rm -f "$work/fs"
    # MALLOC_ARENA_MAX: else glibc may ask for the number of processors in a new thread, which the seccomp filter of
    # this virtiofsd punishes with its death.
    MALLOC_ARENA_MAX=1 background /usr/lib/qemu/virtiofsd "--socket-path=$work/fs" -o "source=$shared_tree" \
        -o sandbox=chroot -o cache=none "${virtiofsd_options[@]}" >>"$work/virtiofsd.log" 2>&1
    eventually 10 test -S "$work/fs"
}

# host_idle: no URB in flight.
host_idle() { ctl status --json | jq -e '.urbsInFlight == 0'; }

# guest_state NAME: loaded, unloaded…
guest_state() { ctl guests --json | jq -r --arg name "$1" '.[] | select(.name == $name) | .state'; }
guest_is() { [[ $(guest_state "$1") == "$2" ]]; }

# Steps that every such case has.
step_ctl() { ctl "$@"; }
step_refused() {
    local output
    if output=$(ctl "$@" 2>&1); then
        echo "succeeded although it must be refused: vusbctl $*" >&2
        return 1
    fi
    echo "$output"
}
step_idle() { eventually "${1:-5}" host_idle; }

# What the guest's both_sides_agree asks.
step_payload_sum() { sha256 <payload; }
step_image_sum() { sha256 <"$1"; }
# What the guest's file system has in a file; from a copy, since the emulated disk locks its image.
step_file_sum() {
    cp "$1" copy.img
    mcopy -n -i copy.img "::$2" copied && sha256 <copied
}
