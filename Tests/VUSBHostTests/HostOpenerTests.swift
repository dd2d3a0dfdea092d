// SPDX-License-Identifier: Apache-2.0

import CLibUSB
import Glibc
import Logging
import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBHost

@Suite struct HostOpenerTests {
    let tree: FixtureTree
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    init() throws { tree = try FixtureTree() }

    private func record(_ name: String) throws -> DeviceRecord {
        guard case .device(let record)? = SysfsEnumerator(root: tree.paths.sysfsDevices).finding(named: name) else {
            throw SystemError(code: ENOENT)
        }
        return record
    }

    /// What an attempt to open it says; libusb refuses every fixture at last, for no file of a fixture is usbfs.
    private func openError(_ record: DeviceRecord) async throws -> USBError {
        let source = HostSource(paths: tree.paths, logger: logger)
        _ = try source.start()
        defer { Task { await source.stop() } }
        do {
            _ = try await source.open(record, isForced: false)
        } catch {
            return error
        }
        throw SystemError(code: 0)
    }

    @Test func `other bytes at the second read are refused, with the first of them named`() async throws {
        var other = SampleDevice.zeroBytes
        other[30] ^= 0xff
        try tree.addDevice("1-1", nodeBytes: other)
        let error = try await openError(record("1-1"))
        #expect(error.code == .invalid)
        #expect(error.message.contains("other bytes at the second read of its descriptors, from byte 30"))
    }

    @Test func `fewer bytes at the second read are other bytes`() async throws {
        try tree.addDevice("1-1", nodeBytes: Array(SampleDevice.zeroBytes.dropLast()))
        let error = try await openError(record("1-1"))
        #expect(error.message.contains("from byte \(SampleDevice.zeroBytes.count - 1)"))
    }

    @Test func `a device that left, or is another one by now, is gone`() async throws {
        try tree.addDevice("1-1", device: 2)
        let record = try record("1-1")
        try tree.write("3", to: "sys/1-1/devnum")
        #expect(try await openError(record).code == .gone)
        tree.remove("sys/1-1")
        #expect(try await openError(record).code == .gone)
    }

    @Test func `a device without a node is gone, and the node is named`() async throws {
        try tree.addDevice("1-1", device: 2)
        tree.remove("dev/001/002")
        let error = try await openError(record("1-1"))
        #expect(error.code == .gone)
        #expect(error.message.contains("/dev/001/002"))
    }

    @Test func `what libusb can't open is an error that names the device`() async throws {
        try tree.addDevice("1-1")
        let error = try await openError(record("1-1"))
        #expect(error.message.contains("device 1-1 can't be opened by libusb"))
    }

    @Test(arguments: [
        (EACCES, USBError.Code.accessDenied, "group vusb"), (EMFILE, .io, "LimitNOFILE"), (ENODEV, .gone, "plug it in"),
        (EBUSY, .busy, "holds it"),
    ])
    func `an errno of the node names device, node and remedy`(errno: Int32, code: USBError.Code, remedy: String) {
        let error = HostOpener.nodeError(SystemError(code: errno), "/dev/bus/usb/001/002", DeviceID("1-1"))
        #expect(error.code == code)
        #expect(error.message.contains("device 1-1: /dev/bus/usb/001/002"))
        #expect(error.remedy?.contains(remedy) == true)
    }

    @Test func `a device that usbip-host holds is busy, with the way to free it`() async throws {
        try tree.addDevice("1-1")
        tree.remove("sys/1-1/driver")
        try tree.link("sys/1-1/driver", to: "../../drivers/usbip-host")
        let error = try await openError(record("1-1"))
        #expect(error.code == .busy)
        #expect(error.description == "device 1-1 is held by usbip-host; usbip unbind --busid=1-1")
    }

    @Test(arguments: ["8:1", "0:33"])
    func `a disk with a mounted partition isn't taken`(number: String) async throws {
        try tree.addDevice("1-1")
        try tree.addInterface(0, of: "1-1", driver: "usb-storage")
        try tree.addDisk("sda", number: 0, below: 0, of: "1-1")
        // 0:33 is how btrfs numbers itself: only the source tells.
        try tree.write("25 1 \(number) / /media/stick rw - vfat /dev/sda1 rw\n", to: "proc/self/mountinfo")
        let error = try await openError(record("1-1"))
        #expect(error.code == .busy)
        #expect(
            error.message
                == "device 1-1: interface 0 held by usb-storage is in use: /dev/sda1 is mounted on /media/stick"
        )
    }

    @Test func `a disk that is swap, or part of another device, isn't taken`() async throws {
        try tree.addDevice("1-1")
        try tree.addInterface(0, of: "1-1", driver: "uas")
        try tree.addDisk("sda", number: 0, below: 0, of: "1-1")
        try tree.write("/dev/sda1 partition 8192 0 -2\n", to: "proc/swaps")
        #expect(try await openError(record("1-1")).message.contains("/dev/sda1 is swap space"))
        tree.remove("proc/swaps")
        try tree.link("sys/1-1/1-1:1.0/host0/target0:0:0/0:0:0:0/block/sda/sda1/holders/dm-0", to: "dm-0")
        #expect(try await openError(record("1-1")).message.contains("/dev/sda1 is part of dm-0"))
    }

    @Test func `a device that answers otherwise than the kernel has it is refused`() throws {
        try tree.addDevice("1-1")
        let record = try record("1-1")
        let port = FakePort()
        var configuration = Array(SampleDevice.zeroBytes[18...])
        port.state.withLock { $0.descriptors = [1: SampleDevice.zeroBytes[..<18] + [], 2: configuration] }
        try DescriptorComparison(of: record, through: port).check()
        // Power may change at any time, endpoints may not.
        configuration[7] = 0xc0
        port.state.withLock { $0.descriptors[2] = configuration }
        try DescriptorComparison(of: record, through: port).check()
        configuration[11] = 9
        port.state.withLock { $0.descriptors[2] = configuration }
        #expect { try DescriptorComparison(of: record, through: port).check() } throws: { error in
            (error as? USBError)?.message.contains("from byte 29") == true
        }
    }

    @Test func `a device that doesn't answer the second time is left alone`() throws {
        try tree.addDevice("1-1")
        try DescriptorComparison(of: record("1-1"), through: FakePort()).check()
    }
}
