# SPDX-License-Identifier: Apache-2.0
# usbip.sh: this kernel as a client of the USB/IP protocol, with Debian's usbip. Read by cases that need it.
. /vm/vhci.sh

modprobe vhci_hcd || fail "modprobe vhci_hcd"
# Where usbip notes what it has attached.
mkdir -p /var/run

# The guest's own listener, port 3240, and what brings the client to where it is reached from.
server=127.0.0.1
as_client=

# import BUSID
import() { $as_client usbip attach -r $server -b "$1" || fail "usbip attach $1"; }
# port_of BUSID: the port at which that device is; usbip prints its lines one after the other.
port_of() {
    usbip port 2>/dev/null | awk -v busid="/$1\$" '/^Port / { port = $2 } $0 ~ busid { print port + 0; exit }'
}
drop() { usbip detach -p "$(port_of "$1")" >/tmp/detach.log 2>&1 || fail "usbip detach of $1: $(cat /tmp/detach.log)"; }
# vhci_port PATH: the port at which the device with this path is, as the kernel says itself.
vhci_port() {
    while read -r _ vhci_port _ _ _ _ vhci_path; do
        [ "$vhci_path" != "$1" ] || { echo $((10#$vhci_port)) && return 0; }
    done </sys/devices/platform/vhci_hcd.0/status
    return 1
}
# export_is BUSID STATE: how vusbd says that the device of guest pc1 is, the only one that has devices. In an attachment
# the state comes after the path.
export_is() {
    export_answer=$(api guests)
    case $export_answer in
        *"\"path\":\"$1\""*) export_answer=${export_answer#*"\"path\":\"$1\""} ;;
        *) return 1 ;;
    esac
    export_answer=${export_answer#*'"state":"'}
    [ "${export_answer%%'"'*}" = "$2" ]
}
