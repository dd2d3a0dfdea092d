# SPDX-License-Identifier: Apache-2.0
# usbip.sh: this kernel as a client of the USB/IP protocol, with Debian's usbip. Read by cases that need it.
. /vm/vhci.sh

modprobe vhci_hcd || fail "modprobe vhci_hcd"
# Where usbip notes what it has attached.
mkdir -p /var/run

# import BUSID: at the guest's own listener, tcp:3240.
import() { usbip attach -r 127.0.0.1 -b "$1" || fail "usbip attach $1"; }
# port_of BUSID: the port at which that device is; usbip prints its lines one after the other.
port_of() {
    usbip port 2>/dev/null | awk -v busid="/$1\$" '/^Port / { port = $2 } $0 ~ busid { print port + 0; exit }'
}
drop() { usbip detach -p "$(port_of "$1")" >/tmp/detach.log 2>&1 || fail "usbip detach of $1: $(cat /tmp/detach.log)"; }
# export_is BUSID STATE: how vusbd says that the device of guest pc1 is.
export_is() { api guests | jq -e --arg path "$1" --arg state "$2" '.[].attachments[] | select(.path == $path) | .state == $state'; }
