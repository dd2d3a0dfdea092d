// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import Logging
import Testing

@testable import VUSBControl

@Suite struct SocketFileTests {
    private static func with(_ body: (String) async throws -> Void) async throws {
        let directory = try ServerFixture.temporaryDirectory()
        defer { try? FileManager.default.removeItem(atPath: directory) }  // Left files harm nobody.
        try await body(directory + "/vusb.sock")
    }

    private static func server(_ path: String) -> ControlServer {
        ControlServer(
            socketPath: path, service: FakeService(), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    /// Binds a socket without listening, and leaves its file behind: what a killed daemon leaves.
    private static func leaveStale(_ path: String) throws {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        // SAFETY: tests' paths are shorter than the field.
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        let result = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(result == 0)
    }

    @Test func fileHasItsModeWhileTheServerServes() async throws {
        try await ServerFixture.with {
            $0.mode = 0o640
        } _: { fixture in
            let attributes = try FileManager.default.attributesOfItem(atPath: fixture.socketPath)
            #expect(attributes[.posixPermissions] as? Int == 0o640)
            #expect(attributes[.type] as? FileAttributeType == .typeSocket)
        }
    }

    @Test func groupThatIsNotThereIsNoError() async throws {
        try await ServerFixture.with {
            $0.group = "no-such-group-here"
        } _: { fixture in
            _ = try await fixture.client.status()
        }
    }

    @Test func groupsAreKnownByName() {
        #expect(Accounts.group("root") == 0)
        #expect(Accounts.group("no-such-group-here") == nil)
    }

    @Test func missingDirectoryIsMade() async throws {
        try await ServerFixture.with {
            $0.socketPath = ($0.socketPath as NSString).deletingLastPathComponent + "/run/vusb.sock"
        } _: { fixture in
            _ = try await fixture.client.status()
        }
    }

    @Test func staleSocketIsTakenOver() async throws {
        try await ServerFixture.with { server in
            let path = server.socketPath
            #expect(throws: Never.self) { try Self.leaveStale(path) }
            #expect(UnixSocket.probe(server.socketPath) == .refused)
        } _: { fixture in
            _ = try await fixture.client.status()
        }
    }

    @Test func liveSocketIsRefusedAndGoesOnServing() async throws {
        try await ServerFixture.with { fixture in
            let error = await #expect(throws: ControlServerError.self) {
                try await Self.server(fixture.socketPath).run()
            }
            #expect(error?.description.contains(fixture.socketPath) == true)
            #expect(error?.description.contains("--socket") == true)
            _ = try await fixture.client.status()
        }
    }

    @Test func fileThatIsNoSocketIsRefusedAndKept() async throws {
        try await Self.with { path in
            try "precious".write(toFile: path, atomically: true, encoding: .utf8)
            let error = await #expect(throws: ControlServerError.self) { try await Self.server(path).run() }
            #expect(error?.description == "\(path) isn't a socket: remove it, or choose another path with --socket")
            #expect(try String(contentsOfFile: path, encoding: .utf8) == "precious")
        }
    }

    @Test(arguments: ["", String(repeating: "x", count: 108), "a\0b"])
    func pathThatNoSocketCanHaveIsRefused(path: String) async throws {
        let error = await #expect(throws: ControlServerError.self) { try await Self.server(path).run() }
        #expect(error?.description.contains("1 to 107") == true)
    }

    @Test func directoryThatCannotBeMadeIsNamed() async throws {
        let error = await #expect(throws: ControlServerError.self) {
            try await Self.server("/proc/no-such-directory/vusb.sock").run()
        }
        #expect(error?.description.contains("/proc/no-such-directory") == true)
    }

    @Test func fileOfAnotherServerIsNotRemovedAtTheEnd() async throws {
        try await Self.with { path in
            try Self.leaveStale(path)
            let file = SocketFile(path: path, mode: 0o600, group: nil)
            let ours = try #require(FileFacts(path))
            // Another one comes before ours goes, so that it can't get the same inode.
            try Self.leaveStale(path + "2")
            try #require(unsafe rename(path + "2", path) == 0)
            file.remove(ours)
            #expect(FileFacts(path)?.isSocket == true)
            file.remove(try #require(FileFacts(path)))
            #expect(FileFacts(path) == nil)
        }
    }
}
