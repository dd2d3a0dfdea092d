// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import VUSBCore
import VUSBTestSupport

@testable import VUSBHost

/// A directory that looks like sysfs, /dev/bus/usb and /proc to the source; gone with the value.
final class FixtureTree: Sendable {
    let root: String
    let paths: HostPaths

    init() throws {
        var template = Array("/tmp/vusb-host-tests.XXXXXX".utf8CString)
        let created = unsafe template.withUnsafeMutableBufferPointer { buffer -> String? in
            guard let base = buffer.baseAddress, let path = unsafe mkdtemp(base) else { return nil }
            return unsafe String(cString: path)
        }
        guard let created else { throw SystemError.last }
        root = created
        var paths = HostPaths()
        paths.sysfsDevices = created + "/sys"
        paths.nodes = created + "/dev"
        paths.usbcoreParameters = created + "/parameters"
        paths.proc = created + "/proc"
        paths.udevControl = created + "/no-udev"
        self.paths = paths
    }

    deinit { Self.remove(root) }

    private static func remove(_ path: String) {
        if unsafe unlink(path) == 0 { return }
        for name in HostFiles.list(path) ?? [] { remove(path + "/" + name) }
        unsafe rmdir(path)
    }

    func write(_ bytes: [UInt8], to path: String) throws {
        let full = root + "/" + path
        makeDirectories(above: full)
        let file = try OwnedDescriptor(creating: full)
        let written = unsafe bytes.withUnsafeBytes { unsafe Glibc.write(file.rawValue, $0.baseAddress, $0.count) }
        guard written == bytes.count else { throw SystemError.last }
    }

    func write(_ text: String, to path: String) throws { try write(Array(text.utf8), to: path) }

    func link(_ path: String, to target: String) throws {
        let full = root + "/" + path
        makeDirectories(above: full)
        guard unsafe symlink(target, full) == 0 else { throw SystemError.last }
    }

    func remove(_ path: String) { Self.remove(root + "/" + path) }

    private func makeDirectories(above path: String) {
        var position = path.index(after: path.startIndex)
        while let slash = path[position...].firstIndex(of: "/") {
            // Most are there already.
            unsafe mkdir(String(path[..<slash]), 0o755)
            position = path.index(after: slash)
        }
    }

    /// A device as sysfs has it, and its usbfs node.
    func addDevice(
        _ name: String,
        descriptors: [UInt8] = SampleDevice.zeroBytes,
        bus: Int = 1,
        device: Int = 2,
        speed: String = "480",
        nodeBytes: [UInt8]? = nil
    ) throws {
        try write(descriptors, to: "sys/\(name)/descriptors")
        try write("\(bus)\n", to: "sys/\(name)/busnum")
        try write("\(device)\n", to: "sys/\(name)/devnum")
        try write("\(speed)\n", to: "sys/\(name)/speed")
        try write("1\n", to: "sys/\(name)/bConfigurationValue")
        try link("sys/\(name)/driver", to: "../../../bus/usb/drivers/usb")
        try write(nodeBytes ?? descriptors, to: paths.node(bus: bus, device: device).dropRoot(root))
    }

    func addInterface(_ number: Int, of name: String, driver: String?) throws {
        let directory = "sys/\(name)/\(name):1.\(number)"
        let digits = String(number, radix: 16)
        try write((digits.count < 2 ? "0" : "") + digits + "\n", to: directory + "/bInterfaceNumber")
        try write(" 0\n", to: directory + "/bAlternateSetting")
        if let driver { try link(directory + "/driver", to: "../../../bus/usb/drivers/\(driver)") }
    }

    /// A disk with one partition below an interface, laid out as SCSI does.
    func addDisk(_ disk: String, number: Int, below interface: Int, of name: String) throws {
        let block = "sys/\(name)/\(name):1.\(interface)/host0/target0:0:0/0:0:0:0/block/\(disk)"
        try write("8:\(number)\n", to: block + "/dev")
        try write("8:\(number + 1)\n", to: block + "/\(disk)1/dev")
        try write("1\n", to: block + "/\(disk)1/partition")
    }
}

extension OwnedDescriptor {
    init(creating path: String) throws(SystemError) {
        let descriptor = unsafe creat(path, 0o644)
        guard descriptor >= 0 else { throw .last }
        self.init(descriptor)
    }
}

extension String {
    fileprivate func dropRoot(_ root: String) -> String { String(dropFirst(root.count + 1)) }
}
