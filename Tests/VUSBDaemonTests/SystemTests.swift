// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import Logging
import Testing
import VUSBControl
import VUSBCore

@testable import VUSBDaemon

@Suite struct InstanceLockTests {
    @Test func aSecondInstanceIsRefusedWithTheFirstOnesNumber() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/vusbd.pid"
        let lock = try InstanceLock(path, object: "state directory \(directory.path)")
        let error = #expect(throws: USBError.self) {
            let second = try InstanceLock(path, object: "state directory \(directory.path)")
            second.release()
        }
        #expect(error?.code == .busy)
        #expect(error?.message == "state directory \(directory.path) is used by vusbd with pid \(getpid())")
        lock.release()
        #expect(!FileManager.default.fileExists(atPath: path))
        try InstanceLock(path, object: "x").release()
    }

    @Test func aFileThatAKilledOneLeftIsNoLock() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/vusbd.pid"
        try "1\n".write(toFile: path, atomically: false, encoding: .utf8)
        let lock = try InstanceLock(path, object: "x")
        #expect(InstanceLock.holder(path) == Int(getpid()))
        lock.release()
    }

    @Test(arguments: ["state", "socket", "mount"]) func whicheverIsSharedIsRefused(shared: String) throws {
        let directory = try TemporaryDirectory()
        func path(_ what: String, _ instance: Int) -> String {
            directory.path + "/" + what + (what == shared ? "" : "\(instance)")
        }
        let first = try InstanceLocks(
            stateDirectory: path("state", 1), socket: path("socket", 1), mount: path("mount", 1))
        let error = #expect(throws: USBError.self) {
            let second = try InstanceLocks(
                stateDirectory: path("state", 2), socket: path("socket", 2), mount: path("mount", 2))
            second.release()
        }
        #expect(error?.message.contains(path(shared, 0)) == true)
        #expect(error?.message.contains("\(getpid())") == true)
        first.release()
    }
}

@Suite struct SystemdNotifierTests {
    /// The manager's end: a datagram socket.
    private final class Manager {
        let descriptor: Int32

        init(_ name: [UInt8]) throws {
            descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: name) }
            let length = socklen_t(2 + name.count)
            let result = unsafe withUnsafePointer(to: &address) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe bind(descriptor, $0, length) }
            }
            try #require(result == 0)
        }

        deinit { close(descriptor) }

        func receive() -> String {
            var bytes = [UInt8](repeating: 0, count: 512)
            let count = unsafe recv(descriptor, &bytes, bytes.count, Int32(MSG_DONTWAIT))
            return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
        }
    }

    @Test func readinessIsADatagramToTheManagersSocket() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/notify"
        let manager = try Manager(Array(path.utf8) + [0])
        let notifier = SystemdNotifier(path: path)
        notifier.ready(status: "2 guests\n1 device")
        #expect(manager.receive() == "READY=1\nSTATUS=2 guests 1 device")
        notifier.status("busy")
        #expect(manager.receive() == "STATUS=busy")
        notifier.stopping()
        #expect(manager.receive() == "STOPPING=1\nSTATUS=Stopping")
    }

    @Test func abstractNamesWork() throws {
        let name = "vusb-test-\(getpid())"
        let manager = try Manager([0] + Array(name.utf8))
        #expect(SystemdNotifier(path: "@" + name).send("READY=1"))
        #expect(manager.receive() == "READY=1")
    }

    @Test(arguments: [nil, "", "relative", "/nonexistent/socket", "/" + String(repeating: "x", count: 200)])
    func withoutAManagerNothingIsSent(path: String?) { #expect(!SystemdNotifier(path: path).send("READY=1")) }
}

@Suite struct StandardErrorLogTests {
    @Test func aMessageIsOneLineWhateverADeviceCallsItself() {
        let log = StandardErrorLog(level: .info, isJournal: true)
        let line = log.line(.warning, "device refused", ["device": "1-2", "reason": "a\nb \u{1b}[31m"])
        #expect(line == "<4>warning device refused device=1-2 reason=\"a\\nb \\u{1B}[31m\"\n")
    }
}

@Suite struct OpenFileLimitTests {
    @Test func theSoftLimitIsTheHardOne() {
        let now = OpenFileLimit.raise()
        var limit = rlimit()
        unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        #expect(now == UInt64(limit.rlim_max))
        #expect(limit.rlim_cur == limit.rlim_max)
    }
}

@Suite struct ImageRuleTests {
    @Test func onlyFilesInTheDirectoryAreShown() throws {
        let directory = try TemporaryDirectory()
        let images = directory.path + "/images"
        try FileManager.default.createDirectory(atPath: images, withIntermediateDirectories: true)
        for name in ["/images/a.img", "/secret"] {
            try Data().write(to: URL(fileURLWithPath: directory.path + name))
        }
        try FileManager.default.createSymbolicLink(atPath: images + "/link", withDestinationPath: "../secret")
        let rule = ImageRule(directory: images)
        try rule.check(images + "/a.img")
        for path in ["/../secret", "/link", "/missing", "", "/../images2/a"] {
            let problem = #expect(throws: Problem.self) { try rule.check(images + path) }
            #expect(problem?.code == .denied)
        }
    }
}
