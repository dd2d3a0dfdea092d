// SPDX-License-Identifier: Apache-2.0

/// What runs in a guest whose devices are attached from inside: Attach.md.
extension GuestScript {
    /// Facts about the guest's ways to do that. $2: the helper that an earlier load has copied, or nothing.
    static let attachFacts =
        head + """
            echo vusb-attach-facts-1

            """ + basics + """
            if [ -d "$root/sys/devices/platform/vhci_hcd.0" ]; then say vhci 1; fi
            for tool in vusb-attach usbip; do say "tool.$tool" "$(command -v $tool)"; done
            if [ -n "$2" ] && [ -x "$root$2" ]; then say copy 1; fi
            if [ -e "$root/dev/vsock" ]; then say vsock 1; fi
            for port in "$root"/sys/class/virtio-ports/*; do
                name=
                if [ -r "$port/name" ]; then IFS= read -r name <"$port/name" || :; fi
                case $name in \(AttachFacts.portPrefix)*) say port "/dev/${port##*/} $name" ;; esac
            done
            if [ -r "$root/proc/net/route" ]; then
                while read -r interface destination gateway rest; do
                    say route "$destination $gateway"
                done <"$root/proc/net/route"
            fi
            say end 1
            """

    /// Loads `vhci-hcd`. Ends with 3 and modprobe(8)'s words where that can't be done, with 4 where it isn't there then.
    static let loadVHCI =
        head + """
            modprobe vhci-hcd || exit 3
            [ -d "$root/sys/devices/platform/vhci_hcd.0" ] || exit 4
            """

    /// Where the helper may be put, in the order in which they are tried.
    static let helperPlaces = ["/run", "/tmp", "/var/tmp"]

    /// Makes a directory of root's own in which programs can be run, and says where. $2: its name. Ends with 3 where there
    /// is no such place.
    static let makeDirectory =
        head + """
            for base in \(helperPlaces.joined(separator: " ")); do
                directory=$root$base/$2
                mkdir -m 700 "$directory" 2>/dev/null || continue
                if printf '#!/bin/sh\\nexit 0\\n' >"$directory/try" && chmod 700 "$directory/try" &&
                    "$directory/try" 2>/dev/null; then
                    rm "$directory/try"
                    echo "$base/$2"
                    exit 0
                fi
                rm -r -f "$directory"
            done
            exit 3
            """

    /// Makes a program of the helper that was copied, and tries it. $2: its path. Ends with 3 where it doesn't run.
    static let makeProgram =
        head + """
            chmod 755 "$root$2" || exit 3
            "$root$2" >/dev/null
            [ $? -eq 2 ] || exit 3
            """

    /// $2: a directory of ours.
    static let removeDirectory = head + "rm -r -f \"$root$2\"\n"

    /// The ports of `vhci-hcd` that are in use. Lines of its table are: hub, port, state, speed, device, socket, busid; 4 is
    /// a free port.
    static let vhciPorts =
        head + """
            echo vusb-vhci-ports-1
            for table in "$root"/sys/devices/platform/vhci_hcd.0/status*; do
                [ -r "$table" ] || continue
                while read -r hub port state rest; do
                    case $hub in hs | ss) [ "$state" = 004 ] || say port "$port" ;; esac
                done <"$table"
            done
            say end 1
            """
}
