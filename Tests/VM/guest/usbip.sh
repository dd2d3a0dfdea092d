# SPDX-License-Identifier: Apache-2.0
# usbip.sh: this kernel as a client of the USB/IP protocol, with Debian's usbip. Read by cases that need it.

modprobe vhci_hcd || fail "modprobe vhci_hcd"
# Where usbip notes what it has attached.
mkdir -p /var/run

# vhci_device VID PID: the bus-port path of a device that was imported.
vhci_device() {
    for usb_directory in /sys/bus/usb/devices/*; do
        [ "$(cat "$usb_directory/idVendor" 2>/dev/null)" = "$1" ] || continue
        [ "$(cat "$usb_directory/idProduct" 2>/dev/null)" = "$2" ] || continue
        case $(readlink -f "$usb_directory") in
            */vhci_hcd*) echo "${usb_directory##*/}" && return 0 ;;
        esac
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

# import BUSID: at the guest's own listener, tcp:3240.
import() { usbip attach -r 127.0.0.1 -b "$1" || fail "usbip attach $1"; }
# port_of BUSID: the port at which that device is; usbip prints its lines one after the other.
port_of() {
    usbip port 2>/dev/null | awk -v busid="/$1\$" '/^Port / { port = $2 } $0 ~ busid { print port + 0; exit }'
}
drop() { usbip detach -p "$(port_of "$1")" >/tmp/detach.log 2>&1 || fail "usbip detach of $1: $(cat /tmp/detach.log)"; }
# export_is BUSID STATE: how vusbd says that the device of guest pc1 is.
export_is() { api guests | jq -e --arg path "$1" --arg state "$2" '.[].attachments[] | select(.path == $path) | .state == $state'; }
