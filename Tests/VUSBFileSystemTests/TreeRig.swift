// SPDX-License-Identifier: Apache-2.0

import VUSBCore
import VUSBTestSupport

@testable import VUSBFileSystem

/// A tree with one host device, `emu-zero`, which guest `web1` holds as `1-1`, minor 1.
struct TreeRig {
    let tree: NodeTree
    let backend = ScriptedBackend(always: .complete())
    let record: DeviceRecord

    /// - Parameter isServed: nobody serves nodes here, so that all numbers count but where a test says otherwise.
    init(
        characterNodes: CharacterNodes = .pointers,
        descriptors: Descriptors? = nil,
        isServed: @escaping @Sendable (CharacterDeviceNumber) -> Bool = { _ in true }
    ) throws {
        tree = NodeTree(characterNodes: characterNodes, isServed: isServed)
        record = DeviceRecord(
            id: DeviceID("emu-zero"),
            source: "emulation",
            speed: .high,
            descriptors: try descriptors ?? SampleDevice.zero(),
            product: "Gadget Zero",
            serial: "0123"
        )
        tree.setHostDevice(HostDeviceEntry(record: record, state: "available", guest: nil))
        tree.addGuest("web1", access: GuestAccess(uid: 1000, gid: 1001, fileMode: 0o640))
    }

    @discardableResult
    func attach(
        path: String = "1-1",
        bus: Int = 1,
        device number: Int = 2,
        to guest: String = "web1",
        node: CharacterDeviceNumber? = nil,
        backend: ScriptedBackend? = nil
    ) -> VirtualDevice {
        let device = SampleDevice.attach(backend ?? self.backend, descriptors: record.descriptors)
        let entry = AttachmentEntry(
            path: path,
            busNumber: bus,
            deviceNumber: number,
            minor: (bus - 1) * 128 + number - 1,
            node: node,
            record: record,
            device: device
        )
        tree.attach(entry, to: guest)
        tree.setGuestPublished(guest, true)
        return device
    }

    /// Follows `path` from the root, as the kernel does; nil where it ends nowhere.
    func node(_ path: String) -> NodeID? {
        var node: NodeID? = .root
        for name in path.split(separator: "/") { node = node.flatMap { tree.lookup(String(name), in: $0) } }
        return node
    }

    func names(_ path: String) -> Set<String>? {
        node(path).flatMap { tree.list($0) }.map { Set($0.map(\.name)) }
    }

    func text(_ path: String) -> String? {
        node(path).flatMap { tree.content(of: $0) }.map { String(decoding: $0, as: UTF8.self) }
    }
}
