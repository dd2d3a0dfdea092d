# SPDX-License-Identifier: Apache-2.0
# Measures two gadgets of a kind, imported by the kernel's vhci-hcd on loopback: one from usbip-host, by Debian's usbipd, the
# other from vusbd, which takes it through libusb. Prints lines `BENCH {…}`; Tests/Benchmarks/usbip.py makes a table of them.
. /vm/bench.sh
ways="kernel vusbd"
hub_of() { echo vhci_hcd; }

plug_ways
import_from_kernel kernel
start_vusbd
vusbctl guest add bench --listen tcp:3241 >/dev/null || fail "guest add"
vusbctl load bench >/dev/null || fail "load"
lend_by_vusbd vusbd bench
for id in 1-1 1-2; do usbip --tcp-port 3241 attach -r 127.0.0.1 -b $id || fail "usbip attach $id"; done
wait_ways
measure_ways read-128K write-128K random-4K control-9 bulk-27 bulk-28
