# SPDX-License-Identifier: Apache-2.0
# Measures the same gadgets three ways in one run: used natively, over the kernel's USB/IP on loopback, and over the
# module on the host's own mount. Prints lines `BENCH {…}`; Tests/Benchmarks/module.py makes a table of them.
. /vm/gadget.sh
. /vm/bench.conf # rounds, megabytes, requests, iterations
modprobe -a usb_storage sd_mod usbip_host vhci_hcd
mkdir /tmp/backing && mount -t tmpfs -o size=1g tmpfs /tmp/backing

ways="native usbip module"

# A disk and a source/sink for each way, all plugged in all the time, each at a controller of its own.
gadget_controllers 6
number=0
for way in $ways; do
    truncate -s "${megabytes}M" "/tmp/backing/$way"
    head -c "$((megabytes << 20))" /dev/zero >"/tmp/backing/$way"
    gadget_create "disk-$way" 1d6b 0104 "DISK-$way"
    gadget_function "disk-$way" mass_storage.0 lun.0/removable=1 "lun.0/file=/tmp/backing/$way"
    gadget_plug "disk-$way" $number
    gadget_create "zero-$way" 0525 a4a0 "ZERO-$way"
    gadget_function "zero-$way" SourceSink.0
    gadget_plug "zero-$way" $((number + 1))
    number=$((number + 2))
done

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
on_way() {
    case $2 in
        native) with_serial "$1-$2" dummy_hcd ;;
        usbip) with_serial "$1-$2" vhci_hcd ;;
        module) with_serial "$1-$2" vusb_hcd ;;
    esac
}
wait_way() {
    eventually 30 on_way "$1" "$2"
    on_way "$1" "$2"
}
block_of() { ls "$1"/*/host*/target*/*/block 2>/dev/null | head -1; }
node_of() { printf '/dev/bus/usb/%03d/%03d' "$(cat "$1/busnum")" "$(cat "$1/devnum")"; }

for way in $ways; do
    for kind in DISK ZERO; do eventually 30 with_serial "$kind-$way" dummy_hcd; done
done

# USB/IP: exported and imported by this same kernel. The program notes in there what it has attached.
mkdir -p /var/run
usbipd -D || fail "usbipd"
for kind in DISK ZERO; do
    id=$(basename "$(with_serial "$kind-usbip" dummy_hcd)")
    usbip bind -b "$id" >/dev/null 2>&1 || fail "usbip bind $id"
    eventually 20 usbip attach -r 127.0.0.1 -b "$id"
done

# The module.
start_vusbd --modules /vm/modules
vusbctl guest add bench --mode module >/dev/null || fail "guest add"
vusbctl load bench >/dev/null || fail "load"
for kind in DISK ZERO; do
    id=$(basename "$(with_serial "$kind-module" dummy_hcd)")
    wait_known "$id"
    vusbctl attach "$id" bench >/dev/null || fail "attach $id"
done

# usbtest binds wherever it is loaded; those that are exported must have gone by then.
modprobe usbtest
for way in $ways; do
    disk=$(wait_way DISK "$way") || exit 1
    zero=$(wait_way ZERO "$way") || exit 1
    eventually 30 block_of "$disk"
    eval "disk_$way=/dev/$(block_of "$disk") zero_$way=$(node_of "$zero")"
    eventually 20 test -e "$zero/${zero##*/}:1.0/driver"
    eval "[ -b \$disk_$way ] && [ -c \$zero_$way ]" || fail "no nodes for $way"
    # Read-ahead and the like aren't what is measured.
    echo none >"/sys/block/$(block_of "$disk")/queue/scheduler"
done

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

for round in $(seq 0 "$rounds"); do
    # Round 0 warms up and isn't counted.
    for test in read-1M write-1M read-64K random-4K control-9 bulk-27 bulk-28; do
        for way in $ways; do
            eval "disk=\$disk_$way zero=\$zero_$way"
            case $test in
                read-1M) measure "$way" "$test" diskbench "$disk" read 1048576 "$megabytes" ;;
                write-1M) measure "$way" "$test" diskbench "$disk" write 1048576 "$megabytes" ;;
                read-64K) measure "$way" "$test" diskbench "$disk" read 65536 $((megabytes * 4)) ;;
                random-4K) measure "$way" "$test" diskbench "$disk" random 4096 "$requests" ;;
                control-9) measure "$way" "$test" usbtest_timed "$zero" 9 512 ;;
                bulk-27) measure "$way" "$test" usbtest_timed "$zero" 27 1024 ;;
                bulk-28) measure "$way" "$test" usbtest_timed "$zero" 28 1024 ;;
            esac
        done
        # Each way is first, second and third as often.
        ways="${ways#* } ${ways%% *}"
    done
done
