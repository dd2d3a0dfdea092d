// SPDX-License-Identifier: Apache-2.0

import CLibUSB
import Logging
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBHost

@Suite struct HostSourceTests {
    let tree: FixtureTree
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    init() throws { tree = try FixtureTree() }

    private func message(_ action: String, _ name: String, device: Int) throws -> UeventMessage {
        let text = "\(action)@/devices/\(name)\0SUBSYSTEM=usb\0DEVTYPE=usb_device\0BUSNUM=001\0DEVNUM=\(device)\0"
        let message = UeventMessage(parsing: Array(text.utf8).span)
        return try #require(message)
    }

    private static func describe(_ event: DeviceEvent) -> String {
        switch event {
        case .arrived(let record): "arrived \(record.id) \(record.deviceNumber ?? 0)"
        case .left(let id): "left \(id)"
        case .refused(let id, _): "refused \(id)"
        }
    }

    @Test func `the devices that are there arrive first, and the stream ends with stop`() async throws {
        try tree.addDevice("1-1", device: 2)
        try tree.addDevice("1-2", descriptors: [18, 1], device: 3)
        let source = HostSource(paths: tree.paths, logger: logger)
        var events: [String] = []
        for await event in try source.start() {
            events.append(Self.describe(event))
            if events.count == 2 { await source.stop() }
        }
        #expect(events == ["arrived 1-1 2", "refused 1-2"])
    }

    @Test func `a host without USB has no devices and no error`() async throws {
        let source = HostSource(paths: tree.paths, logger: logger)
        let stream = try source.start()
        await source.stop()
        var count = 0
        for await _ in stream { count += 1 }
        #expect(count == 0)
    }

    @Test func `a stopped source opens nothing`() async throws {
        try tree.addDevice("1-1")
        let source = HostSource(paths: tree.paths, logger: logger)
        _ = try source.start()
        await source.stop()
        guard case .device(let record)? = SysfsEnumerator(root: tree.paths.sysfsDevices).finding(named: "1-1") else {
            Issue.record("no fixture")
            return
        }
        await #expect { _ = try await source.open(record, isForced: false) } throws: {
            ($0 as? USBError)?.code == .unsupported
        }
    }

    @Test func `the kernel's messages become events`() throws {
        let inbox = Inbox<String>()
        let watcher = HostWatcher(paths: tree.paths, logger: logger) { inbox.append(Self.describe($0)) }
        try tree.addDevice("1-1", device: 2)
        tree.remove("sys/1-1/driver")
        // Not configured yet.
        watcher.handle(try message("add", "1-1", device: 2))
        #expect(inbox.elements == [])
        try tree.link("sys/1-1/driver", to: "../drivers/usb")
        watcher.handle(try message("bind", "1-1", device: 2))
        watcher.handle(try message("change", "1-1", device: 2))
        watcher.handle(.overrun)
        #expect(inbox.elements == ["arrived 1-1 2"])
        // Unplugged and plugged in again: its messages come late.
        try tree.write("3", to: "sys/1-1/devnum")
        watcher.handle(.overrun)
        watcher.handle(try message("remove", "1-1", device: 2))
        #expect(inbox.elements == ["arrived 1-1 2", "left 1-1", "arrived 1-1 3"])
        tree.remove("sys/1-1")
        watcher.handle(try message("remove", "1-1", device: 3))
        #expect(inbox.elements.last == "left 1-1")
    }

    @Test func `a device that lies is refused before it is configured`() throws {
        let inbox = Inbox<String>()
        let watcher = HostWatcher(paths: tree.paths, logger: logger) { inbox.append(Self.describe($0)) }
        try tree.addDevice("1-1", descriptors: [18, 1], device: 2)
        tree.remove("sys/1-1/driver")
        watcher.handle(try message("add", "1-1", device: 2))
        watcher.handle(try message("bind", "1-1", device: 2))
        #expect(inbox.elements == ["refused 1-1"])
    }

    @Test func `messages of interfaces and of strange names are ignored`() throws {
        let inbox = Inbox<String>()
        let watcher = HostWatcher(paths: tree.paths, logger: logger) { inbox.append(Self.describe($0)) }
        try tree.addDevice("1-1")
        watcher.handle(try message("bind", "1-1:1.0", device: 2))
        watcher.handle(try message("bind", "..", device: 2))
        #expect(inbox.elements == [])
    }

    @Test func `the context's thread ends and frees it when the last reference goes`() async throws {
        var context: HostContext? = try HostContext(name: "test", logger: logger)
        let thread = try #require(context).thread
        context = nil
        await thread.end()
    }

    @Test func `a limit of usbfs memory is read in bytes, and one that isn't told is nil`() throws {
        #expect(HostMemoryBudget.kernelLimit(tree.paths) == nil)
        try tree.write("16\n", to: "parameters/usbfs_memory_mb")
        #expect(HostMemoryBudget.kernelLimit(tree.paths) == 16 << 20)
    }

    @Test func `a mounted disk or a foreign driver is in the way, a driver of an interface isn't`() throws {
        try tree.addDevice("1-1", device: 2)
        try tree.addInterface(0, of: "1-1", driver: "usb-storage")
        try tree.addDisk("sda", number: 0, below: 0, of: "1-1")
        guard case .device(let record)? = SysfsEnumerator(root: tree.paths.sysfsDevices).finding(named: "1-1") else {
            Issue.record("the device isn't found")
            return
        }
        #expect(HostObstacle.of(record, paths: tree.paths) == nil)
        try tree.write("25 1 8:1 / /media/my\\040stick rw - vfat /dev/sda1 rw\n", to: "proc/1/mountinfo")
        let mounted = HostObstacle.of(record, paths: tree.paths)
        #expect(mounted?.code == .busy)
        #expect(mounted?.message.hasSuffix("/dev/sda1 is mounted on /media/my stick") == true)
        tree.remove("sys/1-1/driver")
        try tree.link("sys/1-1/driver", to: "../../drivers/usbip-host")
        #expect(HostObstacle.of(record, paths: tree.paths)?.remedy == "usbip unbind --busid=1-1")
    }
}

@Suite struct LibUSBCodeTests {
    @Test(arguments: [
        (LIBUSB_TRANSFER_COMPLETED, URBStatus.success), (LIBUSB_TRANSFER_STALL, .stall),
        (LIBUSB_TRANSFER_NO_DEVICE, .noDevice), (LIBUSB_TRANSFER_OVERFLOW, .babble),
        (LIBUSB_TRANSFER_TIMED_OUT, .timedOut), (LIBUSB_TRANSFER_ERROR, .protocolError),
        (LIBUSB_TRANSFER_CANCELLED, .shutdown),
    ])
    func `a transfer's end has the kernel's meaning`(code: libusb_transfer_status, status: URBStatus) {
        #expect(LibUSBCode.status(code, cancelled: .shutdown) == status)
    }

    @Test(arguments: [
        (Int32(0), URBStatus.success), (LIBUSB_ERROR_NO_DEVICE.rawValue, .noDevice),
        (LIBUSB_ERROR_BUSY.rawValue, .busy), (LIBUSB_ERROR_NO_MEM.rawValue, .noMemory),
        (LIBUSB_ERROR_NOT_FOUND.rawValue, .noEndpoint), (LIBUSB_ERROR_PIPE.rawValue, .stall),
        (LIBUSB_ERROR_INVALID_PARAM.rawValue, .invalid), (LIBUSB_ERROR_NOT_SUPPORTED.rawValue, .notSupported),
        (LIBUSB_ERROR_OTHER.rawValue, .io), (-12345, .io),
    ])
    func `a refused submit has the kernel's meaning`(code: Int32, status: URBStatus) {
        #expect(LibUSBCode.status(code) == status)
    }
}

@Suite struct HostMemoryBudgetTests {
    @Test func `what would go beyond the limit is refused whole`() {
        let budget = HostMemoryBudget(limit: 8192)
        #expect(budget.take(4096))
        #expect(!budget.take(8192))
        #expect(budget.take(4096))
        #expect(!budget.take(1))
        budget.give(8192)
        #expect(budget.usedBytes == 0)
    }
}
