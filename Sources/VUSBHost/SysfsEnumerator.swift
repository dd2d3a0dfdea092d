// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// What sysfs says of one device.
enum SysfsFinding: Equatable {
    case device(DeviceRecord)
    /// It contradicts itself, or what is needed of it is missing.
    case refused(DeviceID, bus: Int, device: Int, reason: String)

    var id: DeviceID {
        switch self {
        case .device(let record): record.id
        case .refused(let id, _, _, _): id
        }
    }
}

/// Finds the devices in sysfs, by their raw descriptors: before, and instead of, libusb (see VUSBHost.md).
struct SysfsEnumerator {
    static let hubClass: UInt8 = 9
    static let sourceName = "libusb"

    /// `/sys/bus/usb/devices`, or a fixture.
    let root: String

    /// The devices that have a place in sysfs, hubs too; nil where the host has no USB.
    func names() -> [String]? { HostFiles.list(root)?.filter(Self.isDeviceName) }

    /// Nil where the host has no USB.
    func findings() -> [SysfsFinding]? { names()?.compactMap(finding(named:)) }

    /// Nil where there is no such device, it is a hub, or it isn't wholly there: on its way in or out, or in the
    /// middle of a reset, when its number is 0 and its speed `unknown`. The kernel tells when that is over.
    func finding(named name: String) -> SysfsFinding? {
        guard Self.isDeviceName(name) else { return nil }
        let directory = root + "/" + name
        let id = DeviceID(name)
        guard let bus = HostFiles.number(directory + "/busnum"), bus > 0,
            let device = HostFiles.number(directory + "/devnum"), device > 0,
            let rate = HostFiles.text(directory + "/speed"), rate != "unknown"
        else { return nil }
        if let carrier = carrier(of: bus) {
            return .refused(
                id, bus: bus, device: device, reason: "\(carrier) brought it here: it may be lent to this kernel")
        }
        do throws(Unreadable) {
            let descriptors = try Self.descriptors(in: directory)
            guard descriptors.device.bDeviceClass != Self.hubClass else { return nil }
            guard let speed = DeviceSpeed(sysfsName: rate) else {
                throw Unreadable(message: "\(directory)/speed says '\(rate)', which isn't a speed of USB")
            }
            return .device(Self.record(id, directory, descriptors, speed, bus: bus, device: device))
        } catch {
            // A device that left while it was read isn't one that lies.
            guard HostFiles.exists(directory) else { return nil }
            return .refused(id, bus: bus, device: device, reason: error.message)
        }
    }

    /// `1-2.3`: a bus, and the ports on the way. Root hubs (`usb1`) and interfaces (`1-2:1.0`) aren't devices here.
    static func isDeviceName(_ name: String) -> Bool {
        let halves = name.utf8.split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
        guard halves.count == 2, name.utf8.count <= 64 else { return false }
        let ports = halves[1].split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return ([halves[0]] + ports).allSatisfy { part in
            !part.isEmpty && part.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        }
    }

    /// What carries the bus's devices here from elsewhere, nil where that's a controller: our module, or the kernel's client
    /// of USB/IP. What is lent to this very kernel comes back as a device of its own, and lending that again would go round for
    /// ever. A root hub's serial number is its controller's name.
    private func carrier(of bus: Int) -> String? {
        guard let name = HostFiles.text("\(root)/usb\(bus)/serial")?.split(separator: ".").first else { return nil }
        return ["vusb_hcd", "vhci_hcd"].first { $0 == name }
    }

    private struct Unreadable: Error {
        let message: String
    }

    private static func descriptors(in directory: String) throws(Unreadable) -> Descriptors {
        let bytes: [UInt8]
        do {
            bytes = try HostFiles.bytes(directory + "/descriptors", limit: Descriptors.maximumByteCount + 1)
        } catch {
            throw Unreadable(message: "\(directory)/descriptors can't be read: \(error)")
        }
        do {
            return try Descriptors(parsing: bytes)
        } catch {
            throw Unreadable(message: String(describing: error))
        }
    }

    private static func record(
        _ id: DeviceID,
        _ directory: String,
        _ descriptors: Descriptors,
        _ speed: DeviceSpeed,
        bus: Int,
        device: Int
    ) -> DeviceRecord {
        DeviceRecord(
            id: id,
            source: sourceName,
            speed: speed,
            descriptors: descriptors,
            manufacturer: HostFiles.text(directory + "/manufacturer"),
            product: HostFiles.text(directory + "/product"),
            serial: HostFiles.text(directory + "/serial"),
            busNumber: bus,
            deviceNumber: device
        )
    }
}
