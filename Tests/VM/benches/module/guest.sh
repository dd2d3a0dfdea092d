# SPDX-License-Identifier: Apache-2.0
# Measures the same gadgets three ways in one run: used natively, over the kernel's USB/IP on loopback, and over the
# module on the host's own mount. Prints lines `BENCH {…}`; Tests/Benchmarks/module.py makes a table of them.
. /vm/bench.sh
ways="native usbip module"
hub_of() {
    case $1 in
        native) echo dummy_hcd ;;
        usbip) echo vhci_hcd ;;
        module) echo vusb_hcd ;;
    esac
}

plug_ways
import_from_kernel usbip
start_vusbd --modules /vm/modules
vusbctl guest add bench --mode module >/dev/null || fail "guest add"
vusbctl load bench >/dev/null || fail "load"
lend_by_vusbd module bench
wait_ways
measure_ways read-1024K write-1024K read-64K random-4K control-9 bulk-27 bulk-28
