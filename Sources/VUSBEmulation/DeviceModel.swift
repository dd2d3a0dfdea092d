// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// What makes one kind of device: its endpoints' behaviour and its class and vendor requests. `EmulatedDevice` does
/// all that devices have in common: chapter 9, queues, halts, pacing, cancellation.
///
/// A model is a value that its device's lock guards, so its methods must neither block nor call out. What blocks is
/// a `Job`, which the device carries out without the lock.
package protocol DeviceModel: Sendable {
    /// Work that may block, for one URB; `Never` for models that have none.
    associatedtype Job: Sendable

    /// A URB is at the head of an endpoint that isn't halted.
    mutating func transfer(
        _ urb: inout URB,
        on endpoint: EndpointDescriptor,
        moved: inout Int,
        effects: inout Effects
    ) -> Verdict<Job>

    /// A class or vendor request. Its data stage is in `urb.buffer`, as many bytes as `setup.wLength`.
    mutating func control(_ setup: SetupPacket, _ urb: borrowing URB, effects: inout Effects) -> ControlReply

    /// A descriptor that is asked of an interface (HID has such); nil for one that it doesn't have.
    func interfaceDescriptor(type: UInt8, index: UInt8, interface: UInt8) -> [UInt8]?

    /// The host clears a halt. False where the endpoint stays halted all the same.
    mutating func haltCleared(_ address: EndpointAddress) -> Bool

    /// The configuration or an alternate setting was set, or the port was reset: protocols begin anew.
    mutating func settingsChanged()

    /// The device was unplugged for good: gives back what it has of the host's. Called once, without the device's lock;
    /// jobs may still be under way, and no other call follows but theirs.
    func unplugged()

    /// Carries out a job without the device's lock, on the submitter's thread (`mayBlock` false) or on the device's
    /// own (`mayBlock` true).
    /// - Returns: bytes moved or a negative errno; nil where it would block and may not.
    static func perform(_ job: Job, _ urb: inout URB, mayBlock: Bool) -> Int?

    /// The job is done; `result` is what `perform` returned. Says how it goes on with the URB.
    mutating func performed(
        _ job: Job,
        result: Int,
        on endpoint: EndpointDescriptor,
        _ urb: inout URB,
        moved: inout Int,
        effects: inout Effects
    ) -> Verdict<Job>
}

/// What becomes of the URB at the head of an endpoint.
package enum Verdict<Job: Sendable>: Sendable {
    /// It ends, with `moved` bytes.
    case complete(URBStatus)
    /// The device answers NAK: it stays where it is until `Effects.wake` names its endpoint.
    case wait
    /// The job is carried out, then `performed` decides.
    case perform(Job)
}

/// The answer to a control transfer.
package enum ControlReply: Sendable {
    /// A request that the device doesn't know or can't do now.
    case stall
    /// Done: OUT data were taken, or there are none.
    case acknowledge
    /// The data of an IN transfer; cut to what the host asked for.
    case data([UInt8])
    /// Not yet: asked again when the device has made progress.
    case wait
}

/// What else a model's answer means for the device.
package struct Effects: Sendable {
    /// Endpoints whose URBs may go on now.
    package var wake = EndpointSet()
    /// Endpoints that stall from now on.
    package var halt = EndpointSet()
    /// The time (nanoseconds of the monotonic clock) when it's to be asked again though nothing happened; 0 for never.
    package var wakeAt: UInt64 = 0
    /// Now, in nanoseconds of the monotonic clock; only for interrupt and isochronous endpoints, 0 for others.
    package let now: UInt64

    package init(now: UInt64 = 0) { self.now = now }
}

/// A set of endpoints, each known by its `EndpointAddress.index` (0 to 31).
package struct EndpointSet: Sendable, Equatable {
    private var bits: UInt32 = 0

    /// The empty set.
    package init() {}
    /// One endpoint.
    package init(_ address: EndpointAddress) { insert(address) }

    /// Whether there is none in it.
    package var isEmpty: Bool { bits == 0 }
    /// The lowest `EndpointAddress.index` in it.
    package var first: Int? { bits == 0 ? nil : bits.trailingZeroBitCount }

    /// Whether the endpoint of that index is in it.
    package func contains(_ index: Int) -> Bool { bits & (1 << UInt32(index)) != 0 }
    /// Whether the endpoint is in it.
    package func contains(_ address: EndpointAddress) -> Bool { contains(address.index) }
    /// Adds the endpoint of that index.
    package mutating func insert(_ index: Int) { bits |= 1 << UInt32(index) }
    /// Adds an endpoint.
    package mutating func insert(_ address: EndpointAddress) { insert(address.index) }
    /// Takes out the endpoint of that index.
    package mutating func remove(_ index: Int) { bits &= ~(1 << UInt32(index)) }
    /// Takes out an endpoint.
    package mutating func remove(_ address: EndpointAddress) { remove(address.index) }
    /// Adds all that are in `other`.
    package mutating func formUnion(_ other: EndpointSet) { bits |= other.bits }

    /// Those that aren't in `other`.
    package func subtracting(_ other: EndpointSet) -> EndpointSet {
        var result = self
        result.bits &= ~other.bits
        return result
    }

    /// Those that are in both.
    package func intersection(_ other: EndpointSet) -> EndpointSet {
        var result = self
        result.bits &= other.bits
        return result
    }
}

extension DeviceModel {
    package func interfaceDescriptor(type: UInt8, index: UInt8, interface: UInt8) -> [UInt8]? { nil }
    package mutating func haltCleared(_ address: EndpointAddress) -> Bool { true }
    package mutating func settingsChanged() {}
    package func unplugged() {}
}

extension DeviceModel where Job == Never {
    package static func perform(_ job: Never, _ urb: inout URB, mayBlock: Bool) -> Int? {}

    package mutating func performed(
        _ job: Never,
        result: Int,
        on endpoint: EndpointDescriptor,
        _ urb: inout URB,
        moved: inout Int,
        effects: inout Effects
    ) -> Verdict<Never> {}
}
