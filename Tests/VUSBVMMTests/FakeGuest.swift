// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VUSBCore

@testable import VUSBVMM

/// A guest's kernel as a table: calls in the order in which they must come, each with its answer. One that isn't
/// expected fails the test.
final class FakeGuest: GuestKernel {
    enum Call: Equatable {
        case facts(at: String, brief: Bool)
        case mount([String])
        case unmount(String)
        case mountUsers(String)
        case prepare([String])
        case users
        case log
        case insmod(String, parameters: String)
        case rmmod(String)
        case read(String)
        case attachFacts(copy: String)
        case loadVHCI
        case makeDirectory
        case write(String)
        case makeProgram(String)
        case removeDirectory(String)
        case vhciPorts
        /// A program other than the shell.
        case program([String])
    }

    enum Answer {
        case result(ProgramResult)
        case bytes([UInt8])
        case done
        /// A directory of the name that was asked for, below this one.
        case directory(below: String)
        case failure(USBError)

        static func lines(_ lines: [String]) -> Answer {
            .result(ProgramResult(end: .exited(0), output: Array((lines.joined(separator: "\n") + "\n").utf8)))
        }

        static func exit(_ code: Int, output: String = "", errors: String = "") -> Answer {
            .result(ProgramResult(end: .exited(code), output: Array(output.utf8), errors: Array(errors.utf8)))
        }
    }

    let description = "guest web1"
    private let expected: Mutex<[(Call, Answer)]>
    /// Images that were sent, by module.
    let sent = Mutex<[String: [UInt8]]>([:])

    init(_ expected: [(Call, Answer)]) { self.expected = Mutex(expected) }

    /// All that was expected has come.
    var isDone: Bool { expected.withLock { $0.isEmpty } }

    /// Of each call, whether its task was cancelled.
    var cancelled: [Bool] { cancellations.withLock { $0 } }
    private let cancellations = Mutex<[Bool]>([])

    /// The name of the last directory that was asked for: a number that nobody knows before. Calls have `DIR` for it.
    private let directory = Mutex("")
    private func known(_ text: String) -> String {
        let name = directory.withLock { $0 }
        return name.isEmpty ? text : text.replacing(name, with: "DIR")
    }

    private func answer(_ call: Call) throws(USBError) -> Answer {
        cancellations.withLock { $0.append(Task.isCancelled) }
        let next = expected.withLock { $0.isEmpty ? nil : $0.removeFirst() }
        guard let next, next.0 == call else {
            Issue.record("unexpected call \(call), expected \(next.map { "\($0.0)" } ?? "none")")
            throw USBError(.io, "unexpected call")
        }
        if case .failure(let error) = next.1 { throw error }
        return next.1
    }

    func run(_ program: String, _ arguments: [String], limit: Duration) async throws(USBError) -> ProgramResult {
        guard program == "/bin/sh" else { return try result(.program([known(program)] + arguments)) }
        // sh -c SCRIPT vusb "" ARGUMENT...
        #expect(program == "/bin/sh" && arguments.first == "-c" && arguments[2...3] == ["vusb", ""])
        let values = Array(arguments[4...])
        let call: Call
        switch arguments[1] {
        case GuestScript.facts: call = .facts(at: values[0], brief: values[1] == "brief")
        case GuestScript.mount: call = .mount(values)
        case GuestScript.unmount: call = .unmount(values[0])
        case GuestScript.mountUsers: call = .mountUsers(values[0])
        case GuestScript.prepare: call = .prepare(values)
        case GuestScript.users: call = .users
        case GuestScript.kernelLog: call = .log
        case GuestScript.attachFacts: call = .attachFacts(copy: values[0])
        case GuestScript.loadVHCI: call = .loadVHCI
        case GuestScript.makeDirectory:
            directory.withLock { $0 = values[0] }
            call = .makeDirectory
        case GuestScript.makeProgram: call = .makeProgram(known(values[0]))
        case GuestScript.removeDirectory: call = .removeDirectory(known(values[0]))
        case GuestScript.vhciPorts: call = .vhciPorts
        default:
            Issue.record("unknown script \(arguments[1])")
            throw USBError(.io, "unknown script")
        }
        return try result(call)
    }

    private func result(_ call: Call) throws(USBError) -> ProgramResult {
        switch try answer(call) {
        case .result(let result): return result
        case .directory(let place):
            return ProgramResult(end: .exited(0), output: Array("\(place)/\(directory.withLock { $0 })\n".utf8))
        case .bytes, .done, .failure: throw USBError(.io, "wrong kind of answer")
        }
    }

    func writeFile(
        _ path: String, _ bytes: [UInt8], progress: @Sendable (Int) -> Void
    ) async throws(USBError) {
        _ = try answer(.write(known(path)))
        sent.withLock { $0[known(path)] = bytes }
    }

    func readFile(_ path: String, limit: Int) async throws(USBError) -> [UInt8] {
        guard case .bytes(let bytes) = try answer(.read(path)) else { throw USBError(.io, "wrong kind of answer") }
        return bytes
    }

    func insmod(
        _ module: String, image: [UInt8], parameters: String, progress: @Sendable (Int) -> Void
    ) async throws(USBError) {
        for count in stride(from: 0, to: image.count, by: 4096) { progress(count) }
        progress(image.count)
        _ = try answer(.insmod(module, parameters: parameters))
        sent.withLock { $0[module] = image }
    }

    func rmmod(_ module: String) async throws(USBError) { _ = try answer(.rmmod(module)) }

    // MARK: - What guests say

    static let bootID = "6d0f3a51-1c1e-4a6b-9c4e-0a1b2c3d4e5f"

    /// Facts about a machine of Debian's; `more` come before, and so win.
    static func facts(_ more: [String] = [], release: String = "6.1.0-56-amd64") -> Answer {
        .lines(
            ["vusb-facts-1"] + more + [
                "release \(release)", "machine x86_64", "uid 0", "boot \(bootID)", "enforce N",
                "lockdown [none] integrity confidentiality", "disabled 0", "present usbcore usb_common virtio",
                "own ", "sample /lib/modules/x/kernel/a.ko", "vermagic \(ModuleBytes.vermagic)", "end 1",
            ]
        )
    }

    static func brief(_ more: [String] = [], boot: String = bootID) -> Answer {
        .lines(
            ["vusb-facts-1", "release 6.1.0-56-amd64", "machine x86_64", "uid 0", "boot \(boot)"] + more + ["end 1"]
        )
    }

    static let bothLoaded = ["module vusb_hcd 0 - Live", "module vusb_channel 1 vusb_hcd, Live"]
}

/// Steps that were told, in order.
final class Steps: Sendable {
    private let texts = Mutex<[String]>([])
    var all: [String] { texts.withLock { $0 } }
    func add(_ text: String) { texts.withLock { $0.append(text) } }
}
