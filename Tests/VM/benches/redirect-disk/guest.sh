# SPDX-License-Identifier: Apache-2.0
# Measures a disk that vusbd redirects against QEMU's own usb-storage over an image of the same size, in one run. Prints
# lines `BENCH {…}`; Tests/Benchmarks/redirect.py makes a table of them.
. /vm/bench.conf # rounds, megabytes, requests
modprobe xhci_pci
usb_drivers
ctl load vm1 --mode redirect

ways="qemu redirect"
# usb_disk SERIAL: its block device, without what would be measured besides.
usb_disk() {
    eventually 30 with_serial "$1"
    usb_disk=$(wait_disk "$(with_serial "$1")") || exit 1
    echo none >"/sys/block/$usb_disk/queue/scheduler"
    echo "/dev/$usb_disk"
}
disk_qemu=$(usb_disk OWN) || exit 1
disk_redirect=$(usb_disk REDIRECT) || exit 1
for disk in $disk_qemu $disk_redirect; do
    equal "the speed of $disk" "$(cat "$(readlink -f "/sys/block/${disk#/dev/}" | sed 's|/[^/]*:1\.0/.*||')/speed")" 5000
done

for round in $(seq 0 "$rounds"); do
    # Round 0 warms up and isn't counted.
    for test in read-128K write-128K random-4K; do
        for way in $ways; do
            eval "disk=\$disk_$way"
            before=$(host spent)
            case $test in
                read-128K) result=$(diskbench "$disk" read 131072 $((megabytes * 8))) ;;
                write-128K) result=$(diskbench "$disk" write 131072 $((megabytes * 8))) ;;
                random-4K) result=$(diskbench "$disk" random 4096 "$requests") ;;
            esac || fail "$test $way"
            spent=$(echo "$(host spent) $before" | awk '{ printf "%.2f", $1 - $2 }')
            echo "BENCH {\"round\":$round,\"way\":\"$way\",\"test\":\"$test\",\"host\":$spent,\"result\":$result}"
        done
        # Each way is first as often.
        ways="${ways#* } ${ways%% *}"
    done
done
