// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VUSBFileSystem

@Suite("Inode numbers")
struct NodeIDTests {
    @Test("keep all that they are made of", arguments: 1...17 as ClosedRange<UInt8>)
    func roundTrip(kind: UInt8) throws {
        let kind = try #require(NodeID.Kind(rawValue: kind))
        for serial: UInt32 in [0, 1, 255, 256, 65_536, NodeID.maximumSerial] {
            let node = NodeID(kind, owner: serial, device: NodeID.maximumSerial - serial, parameter: 0x83)
            let again = NodeID(rawValue: node.rawValue)
            #expect(again.kind == kind)
            #expect(again.owner == serial)
            #expect(again.device == NodeID.maximumSerial - serial)
            #expect(again.parameter == 0x83)
        }
    }

    @Test("1 is the root, by FUSE's rule")
    func root() { #expect(NodeID(rawValue: 1).kind == .root) }

    @Test("of a kind that there isn't name nothing")
    func unknownKind() {
        #expect(NodeID(rawValue: 0xff << 56).kind == nil)
        #expect(NodeTree().list(NodeID(rawValue: 0xff << 56)) == nil)
        #expect(NodeTree().attributes(of: NodeID(rawValue: 0xff << 56)) == nil)
    }

    @Test("of siblings have the same owner and device")
    func sibling() {
        let node = NodeID(.endpoints, owner: 7, device: 9).sibling(.endpoint, parameter: 0x81)
        #expect(node == NodeID(.endpoint, owner: 7, device: 9, parameter: 0x81))
    }

    @Test("of files of interfaces and endpoints say which file and of which one", arguments: 0..<32 as Range<UInt8>)
    func files(file: UInt8) {
        for kind: NodeID.Kind in [.sysfsInterfaceFile, .sysfsEndpointFile] {
            let node = NodeID(.sysfsInterface, owner: 7, device: 9, parameter: 0x85).file(kind, file)
            #expect(node.kind == kind && node.file == file)
            #expect(node.owner == 7 && node.device == 9 && node.parameter == 0x85)
        }
    }

    @Test("have room for all files that there are")
    func fileCounts() {
        #expect(SysfsInterfaceFile.allCases.count <= 32 && SysfsEndpointFile.allCases.count <= 32)
    }

    @Test("of different nodes differ")
    func distinct() throws {
        let rig = try TreeRig()
        rig.attach()
        rig.attach(path: "2-1", bus: 2)
        var seen: Set<NodeID> = []
        var rest = [NodeID.root]
        while let directory = rest.popLast() {
            for entry in rig.tree.list(directory) ?? [] {
                #expect(seen.insert(entry.inode).inserted, "\(entry.name)")
                rest.append(entry.inode)
            }
        }
        #expect(seen.count > 300)
    }
}
