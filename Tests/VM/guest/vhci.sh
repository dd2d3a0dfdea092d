# SPDX-License-Identifier: Apache-2.0
# vhci.sh: devices that vhci_hcd has on this kernel. Read by cases that need it.

# vhci_device VID PID: the bus-port path of a device that was imported.
vhci_device() {
    for usb_directory in /sys/devices/platform/vhci_hcd.*/usb*/*-*; do
        is_usb_device "$usb_directory" "$1" "$2" || continue
        echo "${usb_directory##*/}" && return 0
    done
    return 1
}
no_vhci_device() { ! vhci_device "$1" "$2"; }
wait_vhci_device() {
    eventually 30 vhci_device "$1" "$2"
    wait_id=$(vhci_device "$1" "$2")
    eventually 10 usb_node "$wait_id"
    echo "$wait_id"
}

# drop_all: ends all of them, as `usbip detach` would.
drop_all() {
    cat /sys/devices/platform/vhci_hcd.0/status* | awk '$1 ~ /^[hs]s$/ && $3 == "006" { print $2 + 0 }' >/tmp/vhci-ports
    while read -r vhci_port; do
        echo "$vhci_port" >/sys/devices/platform/vhci_hcd.0/detach || fail "vhci_hcd doesn't drop port $vhci_port"
    done </tmp/vhci-ports
}
