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
# is for an idle machine: a busy one, under software emulation, gets four times as long, and time_factor is /init's.
eventually() {
    first_word /proc/uptime
    eventually_end=$((${first_word%.*} + 4 * time_factor * $1))
    shift
    until "$@" >/dev/null 2>&1; do
        first_word /proc/uptime
        [ "${first_word%.*}" -lt $eventually_end ] || fail "did not come true in time: $*"
        usleep 50000
    done
}

# first_word FILE: into the variable of that name; empty where there is no such file. A process takes a while under
# software emulation, and this is asked again and again: the shell does it alone.
first_word() {
    first_word=
    { read -r first_word first_rest <"$1"; } 2>/dev/null
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

# serial_port NAME: the node of a virtio serial port. Without udev nobody names them; the names come with a message from
# the host, after the port.
serial_port() {
    for serial_port in /sys/class/virtio-ports/*; do
        [ "$(cat "$serial_port/name" 2>/dev/null)" = "$1" ] || continue
        [ -c "/dev/${serial_port##*/}" ] && echo "/dev/${serial_port##*/}" && return
    done
    return 1
}

# ---- devices on this kernel

# usb_device VID PID: the bus-port path of the device.
usb_device() {
    for usb_directory in /sys/bus/usb/devices/*; do
        is_usb_device "$usb_directory" "$1" "$2" || continue
        echo "${usb_directory##*/}" && return 0
    done
    return 1
}
# is_usb_device DIRECTORY VID PID
is_usb_device() {
    first_word "$1/idVendor"
    [ "$first_word" = "$2" ] || return 1
    first_word "$1/idProduct"
    [ "$first_word" = "$3" ]
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
    first_word "/sys/bus/usb/devices/$1/busnum"
    usb_node_bus=$first_word
    first_word "/sys/bus/usb/devices/$1/devnum"
    usb_node_file=$(printf '/dev/bus/usb/%03d/%03d' "$usb_node_bus" "$first_word")
    [ -c "$usb_node_file" ] && echo "$usb_node_file"
}

# with_serial SERIAL: the path of the device that has it.
with_serial() {
    for with_directory in /sys/bus/usb/devices/*; do
        [ "$(cat "$with_directory/serial" 2>/dev/null)" = "$1" ] || continue
        echo "${with_directory##*/}" && return
    done
    return 1
}

# driver_of PATH INTERFACE: the driver that the kernel has bound, or `none`.
driver_of() {
    driver_link=/sys/bus/usb/devices/$1:1.$2/driver
    if [ -e "$driver_link" ]; then basename "$(readlink "$driver_link")"; else echo none; fi
}
is_bound_to() { [ "$(driver_of "$1" "$2")" = "$3" ]; }

# ---- vusbd

vusbd_pid=
# How it is started, by a program that becomes it.
vusbd_command=vusbd

# start_vusbd [OPTION…]: returns when vusbd has said READY=1.
start_vusbd() {
    rm -f /run/notify
    notified /run/notify 60 >/tmp/notified &
    start_waiter=$!
    eventually 5 test -S /run/notify
    NOTIFY_SOCKET=/run/notify $vusbd_command "$@" >>/tmp/vusbd.log 2>&1 8>&- &
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
    api devices | jq -e --arg id "$1" --arg state "${2:-}" \
        'map(select(.id == $id and ($state == "" or .state == $state))) | length == 1'
}

# wait_known ID [STATE]
wait_known() { eventually 30 knows_device "$@"; }

# attachment GUEST DEVICE: the directory of the device in the guest's tree.
attachment() {
    attachment_path=$(api guests | jq -r --arg guest "$1" --arg device "$2" \
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

idle() { api status | jq -e '.urbsInFlight == 0'; }

# in_flight DEVICE LEAST: so many transfers of it.
in_flight() {
    api guests | jq -e --arg device "$1" --argjson least "$2" \
        '.[].attachments[] | select(.device == $device) | .urbsInFlight >= $least'
}

# without_numbers: lsusb's and usbhid-dump's words, without the numbers of bus and device.
without_numbers() { sed 's/^Bus [0-9]* Device [0-9]*/Bus Device/; s/^[0-9]*:[0-9]*:\([0-9]*:[A-Z]*\).*/\1/'; }

# ---- a guest of a vusbd elsewhere

# start_agent [OPTION…]: the guest agent, so that vusbd can load the module; returns when it has its port open.
start_agent() {
    eventually 10 serial_port org.qemu.guest_agent.0
    mkdir -p /run/qemu-ga
    qemu-ga --method=virtio-serial --path="$(serial_port org.qemu.guest_agent.0)" --statedir=/run/qemu-ga \
        --pidfile=/run/qemu-ga/pid "$@" >/tmp/agent.log 2>&1 8>&- &
    agent_pid=$!
    eventually 10 has_port_open "$agent_pid"
}
has_port_open() { ls -l "/proc/$1/fd" | grep -q /dev/vport; }
stop_agent() {
    kill "$agent_pid"
    ending "$agent_pid"
}

# usb_drivers: the kernel's drivers for the emulated devices; a guest with udev has them loaded when a device comes.
# usb-storage would look at a new disk only after a second.
usb_drivers() {
    modprobe usb_storage delay_use=0
    modprobe -a sd_mod cdc_acm usbhid hid_generic evdev vfat ext4
}

# ctl ARG…: vusbctl on the host; refused_by_host REGEXP ARG…: it must fail, and say that.
ctl() { host ctl "$@"; }
refused_by_host() {
    refused_text=$1
    shift
    refused_output=$(host refused "$@") || exit 1
    echo "$refused_output" | grep -qiE "$refused_text" || fail "vusbctl $*: said '$refused_output', expected '$refused_text'"
    note "refused as it must be: $refused_output"
}

is_module_loaded() { [ -d /sys/module/vusb_hcd ]; }
no_module_loaded() { ! is_module_loaded && [ ! -d /sys/module/vusb_channel ]; }

# hcd_state KEY: a line of what the module says of itself. hcd_port HUB-PORT KEY: of a device's line.
hcd_state() { sed -n "s/^$1: //p" /sys/kernel/debug/vusb_hcd/state; }
hcd_port() {
    awk -v port="$1:" -v key="$2" '$1 == "port" && $2 == port { for (i = 3; i < NF; i++) if ($i == key) print $(i + 1) }' \
        /sys/kernel/debug/vusb_hcd/state
}

# our_device VID PID: the bus-port path of a device that hangs on a root hub of vusb_hcd; gone_from_us: there is none.
our_device() {
    for usb_directory in /sys/bus/usb/devices/*; do
        is_usb_device "$usb_directory" "$1" "$2" || continue
        case $(readlink -f "$usb_directory") in
            */vusb_hcd*) echo "${usb_directory##*/}" && return 0 ;;
        esac
    done
    return 1
}
gone_from_us() { ! our_device "$1" "$2"; }

# wait_our_device VID PID: waits for it and its node, prints its path.
wait_our_device() {
    eventually 30 our_device "$1" "$2"
    wait_id=$(our_device "$1" "$2")
    eventually 10 usb_node "$wait_id"
    echo "$wait_id"
}

# ---- drivers' views of the emulated devices

# disk_of PATH: the block device of a USB disk, its name in /dev.
disk_of() {
    for disk_directory in "/sys/bus/usb/devices/$1":*/host*/target*/*/block/sd*; do
        first_word "$disk_directory/size"
        [ "${first_word:-0}" -gt 0 ] && [ -b "/dev/${disk_directory##*/}" ] || continue
        echo "${disk_directory##*/}" && return 0
    done
    return 1
}
wait_disk() {
    eventually 30 disk_of "$1"
    disk_of "$1"
}

# both_sides_agree PATH IMAGE: the USB disk shows the image of the host that has /payload.bin in a FAT file system, and
# what is written here is in the image. Sets disk.
both_sides_agree() {
    disk=$(wait_disk "$1") || exit 1
    equal "the image" "$(sha256sum <"/dev/$disk" | cut -d' ' -f1)" "$(host image_sum "$2")"
    mount "/dev/$disk" /mnt || fail "mount"
    equal "the file in it" "$(sha256sum </mnt/payload.bin | cut -d' ' -f1)" "$(host payload_sum)"
    head -c 3000001 /dev/urandom >/tmp/new
    cp /tmp/new /mnt/new.bin || fail "writing a file"
    umount /mnt || fail "umount"
    equal "what was written, as the host sees it" "$(host file_sum "$2" new.bin)" "$(sha256sum </tmp/new | cut -d' ' -f1)"
}

# wait_tty PATH: the node of a CDC-ACM adapter, without echo or line editing.
tty_of() {
    for tty_directory in /sys/class/tty/ttyACM*; do
        readlink -f "$tty_directory" | grep -q "/$1/" || continue
        [ -c "/dev/${tty_directory##*/}" ] && echo "/dev/${tty_directory##*/}" && return 0
    done
    return 1
}
wait_tty() {
    eventually 30 tty_of "$1"
    stty -F "$(tty_of "$1")" raw -echo -echoe -echok || fail "stty of $(tty_of "$1")"
    tty_of "$1"
}

# wait_input PATH: the event node of a keyboard.
input_of() {
    for input_directory in /sys/class/input/event*; do
        readlink -f "$input_directory" | grep -q "/$1/" || continue
        [ -c "/dev/input/${input_directory##*/}" ] && echo "/dev/input/${input_directory##*/}" && return 0
    done
    return 1
}
wait_input() {
    eventually 30 input_of "$1"
    input_of "$1"
}

# serial_echo TTY BYTES: as many bytes through an adapter that sends back what it gets; they must be the same.
serial_echo() {
    head -c "$2" /dev/urandom >/tmp/echo.sent
    head -c "$2" <"$1" >/tmp/echo.got 2>/tmp/echo.error &
    serial_reader=$!
    cat /tmp/echo.sent >"$1" || fail "writing to $1"
    ending $serial_reader || fail "reading from $1: $(cat /tmp/echo.error)"
    cmp /tmp/echo.sent /tmp/echo.got || fail "$1 returned something else"
}

# read_keys NODE: keeps what an event node says in /tmp/keys, until stop_keys. Returns when it listens: usbhid drops
# what comes while it opens a keyboard.
read_keys() {
    cat "$1" >/tmp/keys 2>/tmp/keys.error 8>&- &
    keys_reader=$!
    eventually 10 grep -q evdev_read /proc/$keys_reader/wchan
}
stop_keys() {
    kill "$keys_reader"
    wait "$keys_reader"
}
# were_typed CODES: whether just these keys were pressed (linux/input-event-codes.h, each with a space behind). Records
# of an event node have 24 bytes, of which the last 8 are type, code and value.
were_typed() {
    [ "$(od -An -v -t u2 -w24 /tmp/keys | awk '$9 == 1 && $11 == 1 { printf "%s ", $10 }')" = "$1" ]
}

# under_load: an emulated disk and a zero of ours are at work, until they go. Sets path and disk, zero, and the numbers of
# the processes, reader and tester.
under_load() {
    path=$(wait_our_device 0525 a4a5) || exit 1
    disk=$(wait_disk "$path") || exit 1
    zero=$(wait_our_device 0525 a4a0) || exit 1
    eventually 10 is_bound_to "$zero" 0 usbtest
    (while dd if="/dev/$disk" of=/dev/null bs=65536 iflag=direct; do :; done) >/dev/null 2>&1 8>&- &
    reader=$!
    (while usbtest "$(usb_node "$zero")" 27:1000:16384; do :; done) >/dev/null 2>&1 8>&- &
    tester=$!
    eventually 10 has_carried "$path" bytes_in 1048576
    eventually 10 has_carried "$zero" bytes_out 1048576
}
# has_carried PATH bytes_in|bytes_out BYTES: at least so many, by the module's count.
has_carried() { [ "$(hcd_port "usb2-${1#*-}" "$2")" -ge "$3" ]; }

# usbtest_alternate PATH N: binds the usbtest driver with the device's Nth alternate setting.
usbtest_alternate() {
    [ ! -d /sys/module/usbtest ] || rmmod usbtest || fail "rmmod usbtest"
    modprobe usbtest "alt=$2" || fail "modprobe usbtest"
    eventually 10 is_bound_to "$1" 0 usbtest
}

# usbtests PATH EXPECTED TEST…: runs the tests, of which those in EXPECTED (numbers with spaces) must run and no other.
usbtests() {
    usbtests_node=$(usb_node "$1")
    usbtests_expected=$2
    shift 2
    usbtest "$usbtests_node" "$@" >/tmp/usbtest.log
    usbtests_status=$?
    sed 's/^/   usbtest /' /tmp/usbtest.log
    [ $usbtests_status -eq 0 ] || fail "usbtest: $(grep failed /tmp/usbtest.log | tr '\n' ' ')"
    equal "tests that ran" "$(sed -n 's/ ran .*//p' /tmp/usbtest.log | tr '\n' ' ')" "$usbtests_expected "
}

# finish: what must hold at the end of every case. Called by /init.
finish() {
    [ ! -e /run/failed ] || exit 1
    [ -n "$vusbd_pid" ] || return 0
    eventually 10 idle
    stop_vusbd
    [ "$(ls /vusb | wc -l)" -eq 0 ] || fail "/vusb isn't empty after vusbd's end"
}
