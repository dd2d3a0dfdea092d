// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import Logging
import Testing
import VUSBCore

@testable import VUSBVMM

@Suite struct LocalConnectorTests {
    /// A process that waits for its standard input to end.
    private func startCat() throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/cat")
        process.standardInput = Pipe()
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        return process
    }

    private func connector() -> LocalConnector { LocalConnector(logger: Logger(label: "test")) }

    @Test func aBoundProcessThatEndsIsToldOnceAsOff() async throws {
        let connector = connector()
        let cat = try startCat()
        try await connector.bind("web1", GuestPlace(process: GuestProcess(pid: Int(cat.processIdentifier))))
        #expect(try await connector.guests().map(\.state) == [.running])

        kill(cat.processIdentifier, SIGKILL)
        var events = connector.events().makeAsyncIterator()
        let event = await events.next()
        #expect(event?.guest == "web1")
        #expect(event?.kind == .off)
        cat.waitUntilExit()
        #expect(try await connector.guests().map(\.state) == [.off])

        // Nothing more comes: the next thing is the stream's end.
        await connector.stop()
        #expect(await events.next() == nil)
    }

    @Test func bindingAProcessThatHasEndedIsRefusedByItsNumber() async throws {
        let cat = try startCat()
        let process = try GuestProcess(pid: Int(cat.processIdentifier))
        kill(cat.processIdentifier, SIGKILL)
        cat.waitUntilExit()
        let connector = connector()
        let error = await #expect(throws: USBError.self) {
            try await connector.bind("web1", GuestPlace(process: process))
        }
        #expect(error?.code == .notFound)
        #expect(error?.message.contains("\(process.pid)") == true)
        #expect(try await connector.guests().isEmpty)
    }

    @Test func aProcessThatGotTheNumberLaterIsNotTheGuest() async throws {
        let cat = try startCat()
        defer { kill(cat.processIdentifier, SIGKILL) }
        var process = try GuestProcess(pid: Int(cat.processIdentifier))
        process.startTime += 1
        #expect(process.state == .off)
        let connector = connector()
        let stale = process
        await #expect(throws: USBError.self) { try await connector.bind("web1", GuestPlace(process: stale)) }
    }

    @Test func anUnboundGuestIsNotToldOfTheEndOfItsProcess() async throws {
        let connector = connector()
        let cat = try startCat()
        try await connector.bind("web1", GuestPlace(process: GuestProcess(pid: Int(cat.processIdentifier))))
        await connector.unbind("web1")
        kill(cat.processIdentifier, SIGKILL)
        cat.waitUntilExit()
        await connector.stop()
        var events = connector.events().makeAsyncIterator()
        #expect(await events.next() == nil)
    }

    @Test func aGuestIsBoundOnlyOnce() async throws {
        let connector = connector()
        try await connector.bind("web1", GuestPlace())
        let error = await #expect(throws: USBError.self) { try await connector.bind("web1", GuestPlace()) }
        #expect(error?.code == .busy)
        #expect(try await connector.guests() == [VMMGuest(name: "web1", state: .unknown)])
    }

    @Test(arguments: [0, -1, Int(Int32.max), Int.max]) func impossibleProcessNumbersAreNotFound(pid: Int) {
        let error = #expect(throws: USBError.self) { try GuestProcess(pid: pid) }
        #expect(error?.code == .notFound)
    }

    @Test(arguments: [
        GuestPlace(monitorSocket: "/run/web1.qmp"), GuestPlace(agentSocket: "/run/web1.agent"),
    ])
    func aGuestWithTheSocketsOfAMachineIsRefused(place: GuestPlace) async throws {
        let connector = connector()
        let error = await #expect(throws: USBError.self) { try await connector.bind("web1", place) }
        #expect(error?.code == .invalid)
        #expect(error?.remedy?.contains("connector: qemu") == true)
        #expect(try await connector.guests().isEmpty)
    }

    @Test func theKernelOfABoundGuestIsTheHosts() async throws {
        let connector = connector()
        #expect(connector.modes == [.files, .module, .usbip])
        try await connector.bind("web1", GuestPlace())
        let kernel = try await connector.kernel(of: "web1")
        #expect(kernel.description == "the host")
        let expected = try String(contentsOfFile: "/proc/sys/kernel/osrelease", encoding: .utf8)
        let found = try await kernel.readFile("/proc/sys/kernel/osrelease", limit: 100)
        #expect(String(decoding: found, as: UTF8.self) == expected)
        let error = await #expect(throws: USBError.self) { try await connector.kernel(of: "other") }
        #expect(error?.code == .notFound)
    }

    @Test func whatItCannotDoNamesConnectorAndOperation() async throws {
        let connector = connector()
        let port = ControllerPort("1-1")
        let error = await #expect(throws: USBError.self) {
            try await connector.hotplug("web1", port: port, wish: PlugWish(speed: .high), socketPath: "/run/x")
        }
        #expect(error?.code == .unsupported)
        #expect(error?.message == "connector local has no hotplug for guest web1")
        await #expect(throws: USBError.self) {
            try await connector.hotunplug("web1", port: port, within: .seconds(1))
        }
        await #expect(throws: USBError.self) { try await connector.controllers(of: "web1") }
        await #expect(throws: USBError.self) { try await connector.unplugLeftovers(of: "web1", named: "") }
    }
}

@Suite struct ProcessStatusTests {
    @Test func aNameWithBlanksAndParenthesesDoesNotShiftTheFields() {
        let line = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20 21"
        let status = ProcessStatus(parsing: line)
        #expect(status?.state == "S")
        #expect(status?.startTime == 987_654)
    }

    @Test(arguments: [
        "", "42", "42 (a", "42 (a)", "42 (a) S 1 2 3", "42 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x",
    ])
    func aLineCutShortIsNoStatus(line: String) { #expect(ProcessStatus(parsing: line) == nil) }
}
