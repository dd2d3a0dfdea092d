# SPDX-License-Identifier: Apache-2.0
# Measures one program on libusb with two gadgets in turn: with one by its real usbfs node, with the other by the node of
# a guest that has it. Prints lines `BENCH {…}`; Tests/Benchmarks/nodes.py makes a table of them.
. /vm/gadget.sh
. /vm/bench.conf # rounds, mebibytes, requests
modprobe cuse
gadget_controllers 2
gadget_create native 0525 a4a0 NATIVE
gadget_create node 0525 a4a1 NODE
for name in native node; do gadget_function $name SourceSink.0; done
gadget_plug native 0
gadget_plug node 1
wait_device 0525 a4a0 >/dev/null
id=$(wait_device 0525 a4a1) || exit 1
start_vusbd
wait_known "$id"
vusbctl guest add bench --nodes >/dev/null || fail "guest add"
vusbctl load bench >/dev/null || fail "load"
vusbctl attach "$id" bench >/dev/null || fail "attach"

# on WAY ARG…: lu-bench there.
on() {
    on_way=$1
    shift
    case $on_way in
        native) lu-bench 0525:a4a0 "$@" ;;
        node) vusbctl run --guest bench -- lu-bench 0525:a4a1 "$@" ;;
    esac
}
ways="native node"
for round in $(seq 0 "$rounds"); do
    # Round 0 warms up and isn't counted.
    for test in in-16384-1 in-16384-8 in-262144-1 in-262144-8 out-16384-1 out-16384-8 out-262144-1 out-262144-8 control empty; do
        for way in $ways; do
            case $test in
                control | empty) set -- $test "$requests" ;;
                *) set -- $(echo "$test" | tr - ' ') "$mebibytes" ;;
            esac
            result=$(on "$way" "$@") || fail "$test $way"
            echo "BENCH {\"round\":$round,\"way\":\"$way\",\"test\":\"$test\",\"result\":$result}"
        done
        # Each way is first as often.
        ways="${ways#* } ${ways%% *}"
    done
done
