// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore
import VUSBTestSupport

/// Four guests of priority 10 that flood a bus, and one of priority 90 that sends 64 bytes now and then.
struct FloodSimulation {
    struct Result {
        /// Nanoseconds.
        var p99: UInt64
        /// What all of them moved, bytes a second.
        var throughput: Int
    }

    enum Probe: UInt8 {
        case bulk = 0x81
        case interrupt = 0x85
    }

    var order: SimulatedBus.Order
    var floods = 4
    var isScheduled: Bool
    var probe: Probe
    /// Of a URB of the flood; each guest keeps 512 KiB in flight.
    var length = 64 << 10
    /// From the end of a URB to the submit of the next: the way through the fronts.
    var turnaround = Duration.microseconds(20)

    private static let window = BusWindow(.high)
    private static let duration: UInt64 = 60_000_000

    /// What is to be submitted, and when.
    private struct Due {
        let time: UInt64
        let device: Int
    }

    func run() throws -> Result {
        let clock = ManualClock()
        let bus = SimulatedBus(order, bytesPerSecond: Self.window.bytesPerSecond, clock: clock)
        let scheduler = BusScheduler(window: Self.window, clock: clock)
        let due = Mutex<[Due]>([])
        let pool = BufferPool()
        let (_, turnaround) = turnaround.components
        let handler = RecordingHandler { completion in
            let isProbe = completion.context == 0
            // Not in step with anything else.
            let wait = isProbe ? 1_000_000 + clock.now() % 37_000 : UInt64(turnaround / 1_000_000_000)
            due.withLock { $0.append(Due(time: clock.now() + wait, device: Int(completion.context))) }
        }
        let devices = try (0...floods).map { index in
            let lane = isScheduled ? BusLane(scheduler, priority: index == 0 ? 90 : 10) : nil
            return VirtualDevice(
                backend: bus.backend(index), descriptors: try SampleDevice.zero(), speed: .high,
                configurationValue: 1, alternates: [InterfaceNumber(rawValue: 0): 2], pool: pool, lane: lane)
        }
        func submit(_ device: Int) {
            let endpoint = EndpointAddress(rawValue: device == 0 ? probe.rawValue : 0x81)
            let count = device == 0 ? 64 : length
            devices[device].submit(
                TestURB.in(endpoint, count: count, pool: pool, handler: handler, context: UInt64(device)))
        }
        let begin = clock.now()
        for device in devices.indices { for _ in 0..<(device == 0 ? 1 : (512 << 10) / length) { submit(device) } }
        var (latencies, sent, seen) = ([UInt64](), begin, 0)
        while clock.now() < begin + Self.duration {
            bus.step()
            let now = clock.now()
            let completions = due.withLock { $0.count { $0.device == 0 } }
            if completions > seen { latencies.append(now - sent) }
            let ready = due.withLock { due in
                defer { due.removeAll { $0.time <= now } }
                return due.filter { $0.time <= now }
            }
            for item in ready {
                if item.device == 0 { sent = now }
                submit(item.device)
            }
            seen = due.withLock { $0.count { $0.device == 0 } }
        }
        latencies.sort()
        return Result(
            p99: latencies[latencies.count * 99 / 100],
            throughput: bus.carried * 1_000_000_000 / Int(Self.duration))
    }
}
