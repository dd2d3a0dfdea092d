// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
package import VUSBCore

/// Devices for programs that speak usbfs: libusb and all that use it.
///
/// Concurrency model: the control plane opens and stops; all devices are served by the loop's threads. What is open is
/// in one `Mutex`, held across no call out.
package final class CharDeviceFront: Sendable {
    fileprivate struct State {
        var majors = CharMajors()
        var lastName = 0
        var ports: [ObjectIdentifier: WeakPort] = [:]
    }

    fileprivate struct WeakPort {
        weak var port: CharDevicePort?
    }

    private let loop: CharLoop
    private let state = Mutex(State())
    private let stream: AsyncStream<CharDeviceEvent>
    private let continuation: AsyncStream<CharDeviceEvent>.Continuation

    /// Needs no CUSE: only `open` does.
    /// - Parameter threads: one is fastest where few programs are at work at a time.
    /// - Throws: `io` where there is no descriptor or thread.
    package init(threads: Int = 1) throws(USBError) {
        (stream, continuation) = AsyncStream.makeStream(of: CharDeviceEvent.self)
        loop = try CharLoop(threads: threads)
    }

    /// What keeps this host from having character devices, with the remedy; nil where nothing does.
    package static func obstacle() -> USBError? {
        unsafe access(CuseChannel.path, R_OK | W_OK) == 0 ? nil : CuseChannel.problem(errno)
    }

    /// What happens to all of them, in order. Called once; the stream ends with `stop`.
    package func events() -> AsyncStream<CharDeviceEvent> { stream }

    /// The major number of all that the guest has here, and of what it will have; nil where none is left.
    /// - Throws: `io` where /proc/devices can't be read.
    package func major(of guest: String) throws(USBError) -> Int? {
        let taken = try CharMajors.Taken(prefix: Self.namePrefix)
        return state.withLock { $0.majors.major(of: guest, taken: taken) }
    }

    /// What a guest had in the last life of vusbd it's to have again. Before any device is opened.
    /// - Returns: whether it has.
    package func restore(_ major: Int, of guest: String) -> Bool {
        state.withLock { $0.majors.restore(major, of: guest) }
    }

    /// The guest is no guest any more: its major number may be another's, once it has no devices.
    package func forget(_ guest: String) { state.withLock { $0.majors.forget(guest) } }

    /// Makes a character device: it can be opened by its numbers when this returns.
    /// - Parameters:
    ///   - path: of the device in the guest's directory, such as `1-2`; it has the ports that programs are told.
    ///   - busNumber: as the guest sees it; likewise `deviceNumber`.
    /// - Throws: `unsupported` without CUSE, `accessDenied`, `io`.
    package func open(
        path: String, of guest: String, device: VirtualDevice, busNumber: Int, deviceNumber: Int
    ) throws(USBError) -> CharDevicePort {
        let identity = UsbfsNode.Identity(
            busNumber: busNumber, deviceNumber: deviceNumber, ports: Self.ports(of: path))
        let reference = PortReference()
        let node = UsbfsNode(device, identity, clock: loop) { reference.port?.usersChanged() }
        let (channel, name, numbers) = try makeChannel(guest, path, node)
        let port = CharDevicePort(
            channel, name: name, number: numbers, loop: loop, isChangeTold: CharFlag()
        ) { [continuation] kind in
            continuation.yield(CharDeviceEvent(guest: guest, path: path, kind: kind))
        }
        reference.set(port)
        try port.begin()
        state.withLock { state in
            state.ports = state.ports.filter { $0.value.port != nil }
            state.ports[ObjectIdentifier(port)] = WeakPort(port: port)
        }
        return port
    }

    /// Ports must have ended. Those who still have one open lose it.
    package func stop() async {
        let ports = state.withLock { state in state.ports.values.compactMap(\.port) }
        for port in ports { port.close() }
        await loop.stop()
        continuation.finish()
    }

    private func makeChannel(
        _ guest: String, _ path: String, _ node: UsbfsNode
    ) throws(USBError) -> (CuseChannel, String, CharacterDeviceNumber) {
        let name = state.withLock { state in state.nextName(guest, path) }
        var problem = USBError(
            .io, "no major number is left for the character devices of guest \(guest)",
            remedy: "remove guests that have nodes; /proc/devices lists whose numbers there are")
        // Somebody else may take them in between.
        for _ in 0..<4 {
            let taken = try CharMajors.Taken(prefix: Self.namePrefix)
            guard let number = state.withLock({ $0.majors.next(of: guest, taken: taken) }) else { throw problem }
            do throws(USBError) {
                return (try make(name, number, node), name, number)
            } catch {
                guard error.code == .io else { throw error }
                state.withLock { $0.majors.refuse(number, of: guest) }
                problem = error
            }
        }
        throw problem
    }

    /// Of the names of all of them: what tells them from other drivers' devices, and from another vusbd's.
    fileprivate static let namePrefix = "vusb-\(getpid())-"

    private func make(
        _ name: String, _ number: CharacterDeviceNumber, _ node: UsbfsNode
    ) throws(USBError) -> CuseChannel {
        let channel = try CuseChannel(name: name, number: number, node: node)
        // It's there once the kernel has had the answer to its first question, or it never will be.
        guard Self.number(of: name) == number else {
            throw USBError(
                .io, "the kernel makes no character device \(name)",
                remedy: "look at dmesg for CUSE; see that /sys is mounted")
        }
        return channel
    }

    /// `1-2.3` is at port 3 of a hub at port 2.
    static func ports(of path: String) -> [UInt8] {
        guard let dash = path.firstIndex(of: "-") else { return [] }
        return path[path.index(after: dash)...].split(separator: ".").compactMap { UInt8($0) }
    }

    /// What sysfs has of a device of CUSE.
    private static func number(of name: String) -> CharacterDeviceNumber? {
        let descriptor = unsafe Glibc.open("/sys/class/cuse/\(name)/dev", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes: [UInt8] = Array(repeating: 0, count: 32)
        let count = unsafe read(descriptor, &bytes, bytes.count)
        let text = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
        let parts = text.split { $0 == ":" || $0 == "\n" }.compactMap { Int($0) }
        return parts.count == 2 ? CharacterDeviceNumber(major: parts[0], minor: parts[1]) : nil
    }
}

extension CharDeviceFront.State {
    /// A name that no other has had: one that has ended may still have an opener.
    fileprivate mutating func nextName(_ guest: String, _ path: String) -> String {
        lastName += 1
        return "\(CharDeviceFront.namePrefix)\(guest)-\(path)-\(lastName)"
    }
}

/// A port that its node tells, once there is one.
private final class PortReference: Sendable {
    private struct Weak {
        weak var port: CharDevicePort?
    }

    private let weak = Mutex(Weak())

    var port: CharDevicePort? { weak.withLock { $0.port } }
    func set(_ port: CharDevicePort) { weak.withLock { $0.port = port } }
}
