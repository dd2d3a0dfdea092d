// SPDX-License-Identifier: Apache-2.0

extension HostChecks {
    /// Only programs that speak usbfs in guests without a module need it.
    func cuse() -> Finding {
        guard files.exists("/dev/cuse") else {
            return Finding(
                check: "cuse", level: .warning,
                summary: "/dev/cuse isn't there: char nodes for unmodified libusb programs can't be served",
                remedy: "load it with 'modprobe cuse' if a guest needs them")
        }
        return Finding(check: "cuse", level: .ok, summary: "/dev/cuse is there")
    }

    func usb() -> [Finding] {
        guard files.exists("/sys/bus/usb/devices") else {
            return [
                Finding(
                    check: "usb", level: .warning, summary: "this host has no USB: only emulated devices can be lent",
                    remedy: "load 'modprobe usbcore' and the controller's driver, if it has one")
            ]
        }
        return [usbNodes(), usbMemory(), usbDrivers()]
    }

    /// libusb opens `/dev/bus/usb/BBB/DDD` for reading and writing.
    func usbNodes() -> Finding {
        guard files.exists("/dev/bus/usb") else {
            return Finding(
                check: "usb-nodes", level: .error, summary: "/dev/bus/usb isn't there: libusb can't open a device",
                remedy: "start udev; a container must be given the directory (--volume /dev/bus/usb:/dev/bus/usb)")
        }
        let nodes = files.names("/dev/bus/usb").flatMap { bus in
            files.names("/dev/bus/usb/" + bus).map { "/dev/bus/usb/\(bus)/\($0)" }
        }
        let closed = nodes.filter { !files.isReadableAndWritable($0) }
        guard let first = closed.first else {
            return Finding(check: "usb-nodes", level: .ok, summary: "all \(nodes.count) device nodes can be opened")
        }
        return Finding(
            check: "usb-nodes", level: .warning,
            summary: "\(closed.count) of \(nodes.count) device nodes can't be opened by this user, such as \(first)",
            remedy: "run vusbd as root, or install the udev rules with 'make install'")
    }

    /// What all transfers of the host share (usbcore's parameter); 0 is no limit.
    func usbMemory() -> Finding {
        let path = "/sys/module/usbcore/parameters/usbfs_memory_mb"
        let text = files.text(path)?.split(whereSeparator: \.isWhitespace).first
        guard let megabytes = text.flatMap({ Int($0) }) else {
            return Finding(
                check: "usbfs-memory", level: .warning, summary: "\(path) can't be read",
                remedy: "load 'modprobe usbcore'")
        }
        guard megabytes == 0 || megabytes >= 64 else {
            return Finding(
                check: "usbfs-memory", level: .warning,
                summary: "all transfers share \(megabytes) MB of kernel memory: many or large ones fail with ENOMEM",
                remedy: "raise it with 'echo 256 > \(path)', for good with usbcore.usbfs_memory_mb=256 at boot")
        }
        let limit = megabytes == 0 ? "any amount" : "\(megabytes) MB"
        return Finding(check: "usbfs-memory", level: .ok, summary: "transfers may take \(limit) of kernel memory")
    }

    /// The host's own drivers hold interfaces until a device is attached; that's no fault.
    func usbDrivers() -> Finding {
        let interfaces = files.names("/sys/bus/usb/devices").filter { $0.contains(":") }
        let held = interfaces.compactMap { name -> String? in
            guard let driver = files.linkedName("/sys/bus/usb/devices/\(name)/driver"), driver != "hub" else {
                return nil
            }
            return "\(driver) holds \(name)"
        }
        guard !held.isEmpty else {
            return Finding(check: "usb-drivers", level: .ok, summary: "no kernel driver is in the way")
        }
        let few = held.prefix(4).joined(separator: ", ") + (held.count > 4 ? ", and \(held.count - 4) more" : "")
        return Finding(
            check: "usb-drivers", level: .ok,
            summary: "\(few): taken away at attach, given back at detach",
            remedy: "unmount a disk's file systems before it's attached")
    }
}
