// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VUSBVMM

/// The rows of QEMU.md's table.
@Suite struct QEMUStateTests {
    /// What is told of these events after a connection that found the VM so.
    private func told(_ status: String, _ events: [String]) -> [VMMEvent.Kind?] {
        var state = QEMUState()
        return [state.connected(status: status)] + events.map { state.take(event($0)) }
    }

    private func event(_ name: String) -> QMPEvent { QMPEvent(name: name, data: [:]) }

    @Test func aRunningMachineIsStartedAndOneThatWaitsIsWhenItRuns() {
        #expect(told("running", []) == [.started])
        #expect(told("prelaunch", ["RESUME"]) == [.stopped, .started])
        #expect(told("inmigrate", ["RESUME"]) == [nil, .started])
        #expect(told("paused", ["RESUME"]) == [.stopped, .started])
    }

    @Test func stopAndSuspendAreToldOnceEachWay() {
        #expect(told("running", ["STOP", "STOP", "RESUME", "RESUME"]) == [.started, .stopped, nil, .resumed, nil])
        #expect(told("running", ["SUSPEND", "WAKEUP"]) == [.started, .stopped, .resumed])
    }

    @Test func powerdownIsOnlyAWish() { #expect(told("running", ["POWERDOWN", "SHUTDOWN"]) == [.started, nil, .off]) }

    @Test func theEndIsToldOnce() {
        #expect(told("running", ["SHUTDOWN", "STOP"]) == [.started, .off, nil])
        #expect(told("running", ["GUEST_PANICKED", "STOP", "SHUTDOWN"]) == [.started, .panicked, nil, nil])
        var state = QEMUState()
        _ = state.connected(status: "running")
        #expect(state.take(event("SHUTDOWN")) == .off)
        #expect(state.lost() == nil)
    }

    @Test func aLostConnectionIsOff() {
        var state = QEMUState()
        _ = state.connected(status: "running")
        #expect(state.lost() == .off)
        #expect(state.state == .off)
        #expect(state.lost() == nil)
        #expect(state.connected(status: "running") == .started)
    }

    /// It may have run, and had devices, before it was found.
    @Test(arguments: ["paused", "prelaunch"]) func aMachineFoundWaitingCanEndToo(status: String) {
        var state = QEMUState()
        _ = state.connected(status: status)
        #expect(state.lost() == .off)
        _ = state.connected(status: status)
        #expect(state.take(event("SHUTDOWN")) == .off)
        #expect(state.lost() == nil)
    }

    @Test func aResetOfARunningMachineIsAReset() { #expect(told("running", ["RESET"]) == [.started, .reset]) }

    @Test func aMachineThatEndedBeginsAgainAfterAReset() {
        #expect(told("running", ["SHUTDOWN", "STOP", "RESUME"]).last == .some(nil))
        #expect(told("running", ["SHUTDOWN", "STOP", "RESET", "RESUME"]) == [.started, .off, nil, nil, .started])
        #expect(told("running", ["GUEST_PANICKED", "RESET"]) == [.started, .panicked, .started])
        #expect(told("shutdown", ["RESET", "RESUME"]) == [nil, nil, .started])
    }

    @Test func whatDoesNotConcernLifeIsNothing() {
        #expect(told("running", ["DEVICE_DELETED", "VSERPORT_CHANGE", "NO SUCH"]) == [.started, nil, nil, nil])
    }

    @Test(arguments: [
        ("running", VMMGuest.State.running), ("paused", .stopped), ("prelaunch", .stopped), ("suspended", .stopped),
        ("io-error", .stopped), ("shutdown", .off), ("guest-panicked", .off),
    ]) func theStatusSaysWhereItIs(status: String, expected: VMMGuest.State) {
        var state = QEMUState()
        _ = state.connected(status: status)
        #expect(state.state == expected)
    }
}
