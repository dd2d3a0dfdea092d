// SPDX-License-Identifier: Apache-2.0

import CLibUSB
import Glibc
import Logging
import VUSBCore

/// Takes a device from the host's own drivers and opens it: step by step, each undone where a later one fails. It
/// blocks, so it runs on the device's own thread.
struct HostOpener {
    let paths: HostPaths
    let budget: HostMemoryBudget
    let logger: Logger

    /// Bytes of a device's memory that its pool keeps for reuse.
    private static let poolCache = 2 << 20
    /// udevd sets a new node's permissions a little after the kernel has told of the device.
    private static let nodeAttempts = 10
    private static let nodePause: useconds_t = 50_000

    /// - Throws: an error that names the device and the remedy; the device is as it was then.
    func open(_ record: DeviceRecord, isForced: Bool, on thread: SerialThread) throws(USBError) -> OpenedDevice {
        let device = SysfsDevice(record.id, root: paths.sysfsDevices)
        guard let bus = record.busNumber, let number = record.deviceNumber, device.exists,
            device.busNumber == bus, device.deviceNumber == number
        else { throw USBError(.gone, "device \(record.id) was unplugged", remedy: "plug it in again") }
        let node = try openNode(paths.node(bus: bus, device: number), record.id)
        try compare(node, record)
        let interfaces = device.interfaces
        try DriverCheck(paths: paths).check(device, interfaces, isForced: isForced)
        let context = try HostContext(name: "usb-\(record.id)", logger: logger)
        let handle = try HostHandle(wrapping: node, in: context, name: "device \(record.id)")
        try DescriptorComparison(of: record, through: handle).check()
        return try take(record, device, interfaces, handle, thread)
    }

    private func openNode(_ path: String, _ id: DeviceID) throws(USBError) -> OwnedDescriptor {
        var attempts = HostFiles.exists(paths.udevControl) ? Self.nodeAttempts : 1
        while true {
            do {
                return try OwnedDescriptor(path: path, flags: O_RDWR)
            } catch {
                attempts -= 1
                guard attempts > 0, [EACCES, EPERM, ENOENT].contains(error.code) else {
                    throw Self.nodeError(error, path, id)
                }
                usleep(Self.nodePause)
            }
        }
    }

    static func nodeError(_ error: SystemError, _ path: String, _ id: DeviceID) -> USBError {
        let message = "device \(id): \(path): \(error)"
        return switch error.code {
        case EACCES, EPERM:
            USBError(.accessDenied, message, remedy: "add vusbd's user to the group vusb and install udev-rules/")
        case ENOENT, ENXIO, ENODEV:
            USBError(.gone, message, remedy: "plug it in again; without udevd, mount a devtmpfs on /dev")
        case EMFILE, ENFILE:
            USBError(.io, message, remedy: "raise the limit of open files (LimitNOFILE=, ulimit -n)")
        case EBUSY: USBError(.busy, message, remedy: "end what holds it")
        default: USBError(.io, message)
        }
    }

    /// usbfs has the same bytes as sysfs, unless the device was replaced in the meantime.
    private func compare(_ node: borrowing OwnedDescriptor, _ record: DeviceRecord) throws(USBError) {
        let bytes: [UInt8]
        do {
            bytes = try node.readAll(limit: Descriptors.maximumByteCount + 1)
        } catch {
            throw Self.nodeError(error, "descriptors", record.id)
        }
        if let difference = DescriptorComparison.difference(record.descriptors.bytes, bytes) {
            throw DescriptorComparison.error(record.id, at: difference)
        }
    }

    private func take(
        _ record: DeviceRecord,
        _ device: SysfsDevice,
        _ interfaces: [SysfsDevice.Interface],
        _ handle: HostHandle,
        _ thread: SerialThread
    ) throws(USBError) -> OpenedDevice {
        let configuration = device.configurationValue
        var claim = HostClaim(
            // One without a driver may have lost it to a vusbd that was killed: the kernel is asked to look for one.
            driven: interfaces.filter { $0.driver != "usbfs" }.map(\.number),
            configurationValue: configuration
        )
        do {
            try claim.take(record.descriptors.interfaceNumbers(configuration), through: handle)
        } catch {
            claim.giveBack(through: handle, currentConfiguration: configuration)
            throw DriverCheck.claimError(record.id, error, interfaces)
        }
        if interfaces.contains(where: { $0.driver != nil }) {
            do {
                try resetAfterDriver(handle, record.id)
            } catch {
                claim.giveBack(through: handle, currentConfiguration: configuration)
                throw error
            }
        }
        // Drivers leave their interfaces at alternate setting 0 mostly; sysfs knows.
        let alternates = Dictionary(
            device.interfaces.map { (InterfaceNumber(rawValue: $0.number), $0.alternate) },
            uniquingKeysWith: { first, _ in first }
        )
        return assemble(record, handle, claim, alternates, thread)
    }

    /// A driver that is taken off in the middle of a command leaves the device in the middle of it: a disk may then
    /// wait for a data stage that nobody carries on, and its new user for ever for a status.
    private func resetAfterDriver(_ handle: HostHandle, _ id: DeviceID) throws(USBError) {
        let code = handle.reset()
        if code == LIBUSB_ERROR_NOT_FOUND.rawValue || code == LIBUSB_ERROR_NO_DEVICE.rawValue {
            throw USBError(.gone, "device \(id) is another one after its reset", remedy: "plug it in again")
        }
        guard code == 0 else { throw LibUSBCode.error(code, "device \(id) can't be reset", remedy: "unplug it") }
    }

    private func assemble(
        _ record: DeviceRecord,
        _ handle: HostHandle,
        _ claim: HostClaim,
        _ alternates: [InterfaceNumber: UInt8],
        _ thread: SerialThread
    ) -> OpenedDevice {
        let memory = HostBufferMemory(handle: handle, budget: budget)
        let pool = BufferPool(cacheLimit: Self.poolCache, memory: memory)
        let table = TransferTable { [weak handle] isIsochronous in
            guard let handle else { return nil }
            return LibUSBCarrier(handle: handle, isIsochronous: isIsochronous, pool: pool)
        }
        let control = HostDevice.Control(
            port: handle,
            claim: claim,
            configurationValue: claim.configurationValue,
            alternates: alternates
        )
        let backend = HostDevice(
            id: record.id,
            descriptors: record.descriptors,
            control: control,
            table: table,
            thread: thread,
            logger: logger
        ) {
            pool.retire()
            memory.retire()
        }
        return OpenedDevice(
            backend: backend,
            configurationValue: claim.configurationValue,
            alternates: alternates,
            pool: pool
        )
    }
}
