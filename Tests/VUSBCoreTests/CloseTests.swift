// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

@Suite("Cancellation.md: close, reset, settings", .timeLimit(.minutes(1)))
struct CloseTests {
    @Test("C40: close with URBs in flight: they end with ENODEV, the backend is closed last")
    func closeInFlight() async throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        rig.submitIn()
        rig.submitIn()
        await rig.device.close()
        #expect(rig.statuses == [.noDevice, .noDevice])
        #expect(rig.backend.isClosed)
        guard case .close? = rig.backend.calls.elements.last else {
            Issue.record("close wasn't the last call: \(rig.backend.calls.elements)")
            return
        }
        rig.expectAtRest()
    }

    @Test("C41: close waits for a thread that is in the backend's submit")
    func closeWaitsForSubmit() async throws {
        let later = Later<Rig>()
        let closing = Later<Task<Void, Never>>()
        let backend = ScriptedBackend(
            always: .run { _ in
                guard let rig = later.value else { return }
                closing.value = Task { await rig.device.close() }
                while rig.device.admission == .admitting { Threads.yield() }
                // It has begun, and can't be at the backend's close as long as this call runs.
                for _ in 0..<1000 { Threads.yield() }
                #expect(!rig.backend.isClosed)
            }
        )
        let rig = try Rig(backend)
        later.value = rig
        await Threads.run(1) { _ in rig.submitIn() }
        await closing.value?.value
        #expect(rig.statuses == [.noDevice])
        #expect(rig.backend.isClosed)
        later.value = nil
        rig.expectAtRest()
    }

    @Test("C42: submit and cancel after close never reach the backend")
    func submitAfterClose() async throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        let token = rig.submitIn()
        await rig.device.close()
        rig.submitIn()
        rig.device.cancel(token)
        rig.device.cancelAll()
        rig.device.disconnect()
        #expect(rig.statuses == [.noDevice, .noDevice])
        guard case .close? = rig.backend.calls.elements.last else {
            Issue.record("close wasn't the last call: \(rig.backend.calls.elements)")
            return
        }
        rig.expectAtRest()
    }

    @Test("C43: closed several times at once: the backend is closed once, all wait for it")
    func closedSeveralTimes() async throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        rig.submitIn()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    await rig.device.close()
                    #expect(rig.backend.isClosed)
                }
            }
        }
        await rig.device.close()
        rig.expectAtRest()
    }

    @Test("C44: a cancelled task closes to the end")
    func cancelledTaskCloses() async throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        rig.submitIn()
        let task = Task {
            while !Task.isCancelled { await Task.yield() }
            await rig.device.close()
        }
        task.cancel()
        await task.value
        #expect(rig.backend.isClosed)
        #expect(rig.statuses == [.noDevice])
        rig.expectAtRest()
    }

    // MARK: - Reset

    /// Resets when it's told to, as it's told.
    private final class ResettingBackend: USBBackend {
        let entered = Inbox<Bool>()
        let answers = Inbox<USBError?>()
        let closes = Inbox<Bool>()
        func submit(_ urb: consuming URB) { urb.complete(.success) }
        func cancel(_ token: URBToken) {}
        func reset() async throws(USBError) {
            entered.append(true)
            if let error = await answers.wait(for: 1).first ?? nil { throw error }
        }
        func close() async { closes.append(true) }
    }

    @Test("C50: submit during a reset ends with EBUSY, afterwards it's admitted")
    func submitDuringReset() async throws {
        let backend = ResettingBackend()
        let pool = BufferPool()
        let handler = RecordingHandler()
        let device = SampleDevice.attach(backend, descriptors: try SampleDevice.zero(), pool: pool)
        let resetting = Task { try await device.reset() }
        await backend.entered.wait(for: 1)
        device.submit(TestURB.in(EndpointAddress(rawValue: 0x81), count: 8, pool: pool, handler: handler))
        #expect(device.admission == .draining)
        // C54: a second one meanwhile.
        let second = await #expect(throws: USBError.self) { try await device.reset() }
        #expect(second?.code == .busy)
        backend.answers.append(nil)
        try await resetting.value
        device.submit(TestURB.in(EndpointAddress(rawValue: 0x81), count: 8, pool: pool, handler: handler))
        #expect(handler.completions.map(\.status) == [.busy, .success])
        #expect(device.inFlight == 0)
        #expect(pool.outstanding == 0)
    }

    @Test("C51: URBs in flight at a reset end with ESHUTDOWN; the settings stay")
    func resetInFlight() async throws {
        let rig = try Rig(ScriptedBackend([.submit(.any, .complete()), .submit(.any, .hold), .reset(nil)]))
        rig.control(.setInterface(0, alternate: 2))
        rig.submitIn(0x85)
        try await rig.device.reset()
        #expect(rig.statuses == [.success, .shutdown])
        #expect(rig.device.admission == .admitting)
        #expect(rig.device.settings.alternates == [InterfaceNumber(rawValue: 0): 2])
        rig.expectAtRest()
    }

    @Test("C52: reset of a device that drains: it still does afterwards")
    func resetWhileDraining() async throws {
        let rig = try Rig(ScriptedBackend([.reset(nil)]))
        rig.device.stopAdmitting()
        try await rig.device.reset()
        #expect(rig.device.admission == .draining)
        rig.expectAtRest()
    }

    @Test("C53: a device that is gone after the reset counts as unplugged")
    func resetGone() async throws {
        let rig = try Rig(ScriptedBackend([.reset(USBError(.gone, "it came back as another device"))]))
        let error = await #expect(throws: USBError.self) { try await rig.device.reset() }
        #expect(error?.code == .gone)
        #expect(rig.device.admission == .closed(.noDevice))
        rig.submitIn()
        #expect(rig.statuses == [.noDevice])
        rig.expectAtRest()
    }

    @Test("C53: a reset that fails otherwise changes nothing")
    func resetFails() async throws {
        let rig = try Rig(ScriptedBackend([.reset(USBError(.io, "no")), .submit(.any, .complete())]))
        let error = await #expect(throws: USBError.self) { try await rig.device.reset() }
        #expect(error?.code == .io)
        rig.submitIn()
        #expect(rig.statuses == [.success])
        rig.expectAtRest()
    }

    @Test("C55: close waits for a reset; a reset after it is refused")
    func closeWaitsForReset() async throws {
        let backend = ResettingBackend()
        let device = SampleDevice.attach(backend, descriptors: try SampleDevice.zero())
        let resetting = Task { try await device.reset() }
        await backend.entered.wait(for: 1)
        let closing = Task { await device.close() }
        while device.admission != .closed(.noDevice) { await Task.yield() }
        #expect(backend.closes.count == 0)
        backend.answers.append(nil)
        try await resetting.value
        await closing.value
        #expect(backend.closes.count == 1)
        #expect(device.admission == .closed(.noDevice))
        let error = await #expect(throws: USBError.self) { try await device.reset() }
        #expect(error?.code == .gone)
        #expect(backend.entered.count == 1)
    }

    // MARK: - Settings

    @Test("C60: the new endpoints are there when the handler of SET_INTERFACE runs")
    func settingsBeforeHandler() throws {
        let later = Later<VirtualDevice>()
        let handler = RecordingHandler { _ in
            #expect(later.value?.endpoint(EndpointAddress(rawValue: 0x83)) != nil)
        }
        let interface = InterfaceNumber(rawValue: 0)
        let rig = try Rig(
            ScriptedBackend([.submit(.operation(.setInterface(interface, alternate: 1)), .hold)]),
            handler: handler
        )
        later.value = rig.device
        rig.control(.setInterface(0, alternate: 1))
        #expect(rig.device.endpoint(EndpointAddress(rawValue: 0x83)) == nil)
        rig.backend.completeNext()
        #expect(rig.statuses == [.success])
        #expect(rig.device.settings.alternates == [interface: 1])
        later.value = nil
        rig.expectAtRest()
    }

    @Test("C61: a URB for an endpoint that the new setting hasn't got is refused")
    func endpointGoneWithSetting() throws {
        let rig = try Rig(
            ScriptedBackend([
                .submit(.any, .complete()), .submit(.in(0x85, 64), .hold), .submit(.any, .complete()),
            ])
        )
        rig.control(.setInterface(0, alternate: 2))
        rig.submitIn(0x85)
        rig.control(.setInterface(0, alternate: 0))
        // The source's part of C61: what was in flight there ended first.
        rig.backend.completeNext(.shutdown)
        rig.submitIn(0x85)
        #expect(rig.statuses == [.success, .success, .shutdown, .noEndpoint])
        rig.expectAtRest()
    }

    @Test(
        "C62: a SET_CONFIGURATION that fails or is cancelled changes nothing",
        arguments: [URBStatus.stall, .cancelled, .io])
    func failedSettingChange(status: URBStatus) throws {
        let rig = try Rig(ScriptedBackend([.submit(.operation(.setConfiguration(0)), .complete(status))]))
        rig.control(.setConfiguration(0))
        #expect(rig.statuses == [status])
        #expect(rig.device.settings.configurationValue == 1)
        #expect(rig.device.settings.endpoints.count == 2)
        rig.expectAtRest()
    }

    @Test("C63: SET_INTERFACE that completes after the device was unconfigured changes nothing")
    func settingOfAnotherConfiguration() throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        rig.control(.setInterface(0, alternate: 2))
        rig.control(.setConfiguration(0))
        rig.backend.held[1].complete()
        rig.backend.held[0].complete()
        #expect(rig.device.settings.configurationValue == 0)
        #expect(rig.device.settings.alternates == [:])
        rig.expectAtRest()
    }

    @Test("C63: SET_INTERFACE that completes after another configuration was set, which has no such setting")
    func settingThatTheNewConfigurationLacks() throws {
        let interface = [DescriptorBytes.interface(0, endpoints: 1), DescriptorBytes.endpoint(0x81)]
        let alternate = [DescriptorBytes.interface(0, alternate: 2, endpoints: 1), DescriptorBytes.endpoint(0x83)]
        let descriptors = try Descriptors(
            parsing: DescriptorBytes.device(configurations: 2)
                + DescriptorBytes.configuration(interface + alternate, value: 1)
                + DescriptorBytes.configuration(interface, value: 2)
        )
        let backend = ScriptedBackend(always: .hold)
        let pool = BufferPool()
        let handler = RecordingHandler()
        let device = SampleDevice.attach(backend, descriptors: descriptors, pool: pool)
        device.submit(TestURB.control(.setInterface(0, alternate: 2), pool: pool, handler: handler))
        device.submit(TestURB.control(.setConfiguration(2), pool: pool, handler: handler))
        backend.held[1].complete()
        backend.held[0].complete()
        #expect(handler.completions.map(\.status) == [.success, .success])
        #expect(device.settings.configurationValue == 2)
        #expect(device.settings.alternates == [InterfaceNumber(rawValue: 0): 0])
        #expect(device.endpoint(EndpointAddress(rawValue: 0x81)) != nil)
        #expect(device.inFlight == 0)
    }
}
