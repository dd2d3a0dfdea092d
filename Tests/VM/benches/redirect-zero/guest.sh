# SPDX-License-Identifier: Apache-2.0
# Measures vusbd against usbredirect: each has a gadget of this machine's and redirects it into the second one, which
# runs usbtest on both in turn. Prints lines `BENCH {…}`; Tests/Benchmarks/redirect.py makes a table of them.
. /vm/gadget.sh
. /vm/two.sh
. /vm/bench.conf # rounds, iterations

if [ "$role" = second ]; then
    modprobe -a xhci_pci usbtest
    ways="reference vusbd"
    for way in $ways; do
        eventually 240 with_serial "ZERO-$way"
        path=$(with_serial "ZERO-$way") || exit 1
        eventually 30 is_bound_to "$path" 0 usbtest
        eval "node_$way=$(usb_node "$path")"
        echo "SECOND has ZERO-$way"
    done
    measured() { usbtest "$@" >/tmp/measured; }
    for round in $(seq 0 "$rounds"); do
        for test in 9:512 27:1024 28:1024; do
            for way in $ways; do
                eval "node=\$node_$way"
                # usbredirect may miss that a transfer it has cancelled has ended, and is silent for a minute then.
                eventually 120 measured "$node" "${test%:*}:$iterations:${test#*:}:512:32"
                output=$(cat /tmp/measured)
                microseconds=$(echo "$output" | awk '$2 == "ran" { print $3 }')
                echo "$microseconds $iterations" | awk -v round="$round" -v way="$way" -v test="${test%:*}" '{
                    printf "BENCH {\"round\":%d,\"way\":\"%s\",\"test\":\"usbtest-%s\",\"result\":", round, way, test
                    printf "{\"seconds\":%.6f,\"iterations\":%d}}\n", $1 / 1e6, $2 }'
            done
            ways="${ways#* } ${ways%% *}"
        done
    done
    echo "SECOND has measured"
    exit 0
fi

gadget_controllers 2
for way in reference vusbd; do
    gadget_create "zero-$way" 0525 a4a0 "ZERO-$way"
    gadget_function "zero-$way" SourceSink.0
done
gadget_plug zero-reference 0
eventually 20 with_serial ZERO-reference
usbredirect --device 0525:a4a0 --as 127.0.0.1:4000 >/tmp/usbredirect.log 2>&1 8>&- &
listens() { grep -q ':0FA0 ' /proc/net/tcp; }
eventually 10 listens
bridge second.other TCP:127.0.0.1:4000
host said 120 'SECOND has ZERO-reference'
gadget_plug zero-vusbd 1
eventually 20 with_serial ZERO-vusbd
start_for_second
zero=$(with_serial ZERO-vusbd)
wait_known "$zero"
lend_to_second 1 "$zero"
host said 1200 'SECOND has measured'
host bench
vusbctl unload second --cancel || fail "unload"
