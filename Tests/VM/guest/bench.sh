# SPDX-License-Identifier: Apache-2.0
# bench.sh: a disk and a source/sink for each way of using them, measured in turn. Read by the cases of Tests/VM/benches
# that do so, which set `ways` and define hub_of WAY: the controller below which the devices of that way are in the end.
. /vm/gadget.sh
. /vm/bench.conf # rounds, megabytes, requests, iterations

# with_serial SERIAL HUB: the sysfs directory of the device with this serial below a controller of that name.
with_serial() {
    for with_directory in /sys/bus/usb/devices/*; do
        [ "$(cat "$with_directory/serial" 2>/dev/null)" = "$1" ] || continue
        case $(readlink -f "$with_directory") in
            */$2*) echo "$with_directory" && return 0 ;;
        esac
    done
    return 1
}
block_of() { ls "$1"/*/host*/target*/*/block 2>/dev/null | head -1; }
node_of() { printf '/dev/bus/usb/%03d/%03d' "$(cat "$1/busnum")" "$(cat "$1/devnum")"; }

# plug_ways: all are plugged in all the time, each at a controller of its own.
plug_ways() {
    modprobe -a usb_storage sd_mod
    mkdir /tmp/backing && mount -t tmpfs -o size=1g tmpfs /tmp/backing
    gadget_controllers $((2 * $(echo "$ways" | wc -w)))
    plug_number=0
    for way in $ways; do
        truncate -s "${megabytes}M" "/tmp/backing/$way"
        head -c "$((megabytes << 20))" /dev/zero >"/tmp/backing/$way"
        gadget_create "disk-$way" 1d6b 0104 "DISK-$way"
        gadget_function "disk-$way" mass_storage.0 lun.0/removable=1 "lun.0/file=/tmp/backing/$way"
        gadget_plug "disk-$way" $plug_number
        gadget_create "zero-$way" 0525 a4a0 "ZERO-$way"
        gadget_function "zero-$way" SourceSink.0
        gadget_plug "zero-$way" $((plug_number + 1))
        plug_number=$((plug_number + 2))
    done
    for way in $ways; do
        for kind in DISK ZERO; do eventually 30 with_serial "$kind-$way" dummy_hcd; done
    done
}

# import_from_kernel WAY: exported by this kernel's usbip-host and Debian's usbipd, imported on loopback. The program notes in
# /var/run what it has attached.
import_from_kernel() {
    modprobe -a usbip_host vhci_hcd
    mkdir -p /var/run
    usbipd -D || fail "usbipd"
    for kind in DISK ZERO; do
        id=$(basename "$(with_serial "$kind-$1" dummy_hcd)")
        usbip bind -b "$id" >/dev/null 2>&1 || fail "usbip bind $id"
        eventually 20 usbip attach -r 127.0.0.1 -b "$id"
    done
}

# lend_by_vusbd WAY GUEST
lend_by_vusbd() {
    for kind in DISK ZERO; do
        id=$(basename "$(with_serial "$kind-$1" dummy_hcd)")
        wait_known "$id"
        vusbctl attach "$id" "$2" >/dev/null || fail "attach $id"
    done
}

# wait_ways: has the drivers on all, and sets disk_WAY and zero_WAY to the nodes. usbtest binds wherever it is loaded; those
# that are exported must have gone by then.
wait_ways() {
    modprobe usbtest
    for way in $ways; do
        for kind in DISK ZERO; do eventually 30 with_serial "$kind-$way" "$(hub_of "$way")"; done
        disk=$(with_serial "DISK-$way" "$(hub_of "$way")") || fail "no disk for $way"
        zero=$(with_serial "ZERO-$way" "$(hub_of "$way")") || fail "no zero for $way"
        eventually 30 block_of "$disk"
        eval "disk_$way=/dev/$(block_of "$disk") zero_$way=$(node_of "$zero")"
        eventually 20 test -e "$zero/${zero##*/}:1.0/driver"
        eval "[ -b \$disk_$way ] && [ -c \$zero_$way ]" || fail "no nodes for $way"
        # Read-ahead and the like aren't what is measured.
        echo none >"/sys/block/$(block_of "$disk")/queue/scheduler"
    done
}

# busy: hundredths of a second that all processors together have worked.
busy() { awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 + $9 }' /proc/stat; }

# usbtest_timed NODE TEST LENGTH: as diskbench prints its result; the driver itself takes the time.
usbtest_timed() {
    timed_before=$(busy)
    timed_output=$(usbtest "$1" "$2:$iterations:$3:512:32") || return 1
    timed_microseconds=$(echo "$timed_output" | awk '$2 == "ran" { print $3 }')
    [ -n "$timed_microseconds" ] || return 1
    echo "$timed_microseconds $iterations $(($(busy) - timed_before))" |
        awk '{ printf "{\"seconds\":%.6f,\"iterations\":%d,\"cpu\":%.2f}\n", $1 / 1e6, $2, $3 / 100 }'
}

# measure WAY TEST COMMAND…: the command prints one JSON object.
measure() {
    measure_way=$1
    measure_test=$2
    shift 2
    measure_result=$("$@") || fail "$measure_test $measure_way: $*"
    echo "BENCH {\"round\":$round,\"way\":\"$measure_way\",\"test\":\"$measure_test\",\"result\":$measure_result}"
}

# measure_ways TEST…: in rounds, each way first as often. KIND-SIZEK of a disk, KIND-TEST of a source/sink's usbtest.
measure_ways() {
    # Round 0 warms up and isn't counted.
    for round in $(seq 0 "$rounds"); do
        for test; do
            for way in $ways; do
                eval "disk=\$disk_$way zero=\$zero_$way"
                size=${test#*-}
                size=${size%K}
                case $test in
                    random-*K) measure "$way" "$test" diskbench "$disk" random $((size << 10)) "$requests" ;;
                    *K) measure "$way" "$test" diskbench "$disk" "${test%-*}" $((size << 10)) $(((megabytes << 10) / size)) ;;
                    control-*) measure "$way" "$test" usbtest_timed "$zero" "$size" 512 ;;
                    bulk-*) measure "$way" "$test" usbtest_timed "$zero" "$size" 1024 ;;
                esac
            done
            ways="${ways#* } ${ways%% *}"
        done
    done
}
