// SPDX-License-Identifier: Apache-2.0

/// Follows the commands of mass-storage functions through the bytes of their pipes. See StorageWatch.md.
///
/// A value without a lock, a clock or a buffer of its own: `StorageWatch` guards it and shows it the bytes. Nothing that
/// it's shown makes it trap, and its memory is bounded by the limits below.
struct StorageTracker: Sendable {
    typealias Instant = ContinuousClock.Instant

    /// Logical units of a device; all beyond count as the last one.
    static let unitLimit = 16
    /// Commands of one function at once: as many as Linux' driver has.
    static let commandLimit = 256
    /// Bytes of mode parameters and the like that are looked at.
    static let dataLimit = 512

    /// What moved, or is to move, on a pipe.
    struct Transfer {
        let endpoint: EndpointAddress
        let token: URBToken
        /// Bytes in all; what is shown of them may be fewer.
        let length: Int
        var streamID: UInt16 = 0
    }

    /// How a command ended.
    enum Outcome: Equatable {
        case succeeded
        /// The device didn't do it: not ready, no such command or field, write-protected.
        case refused(isIllegal: Bool)
        /// It may be done in part.
        case failed
        /// Nobody will hear of it any more: reset, or never carried out.
        case void
    }

    private let descriptors: Descriptors
    private let interfaces: [StorageInterface]
    private var settings: ActiveSettings
    private var functions: [StorageFunction] = []
    /// By `EndpointAddress.index`, which function's pipe it is; negative for none.
    private var functionIndexes: [Int8] = Array(repeating: -1, count: 32)
    private(set) var units: [StorageUnit] = []

    /// Nil for a device without a mass-storage function.
    init?(_ descriptors: Descriptors, _ settings: ActiveSettings) {
        interfaces = StorageInterface.all(in: descriptors)
        guard !interfaces.isEmpty else { return nil }
        self.descriptors = descriptors
        self.settings = settings
        openFunctions(keeping: [])
    }

    func watches(_ endpoint: EndpointAddress) -> Bool { functionIndexes[endpoint.index] >= 0 }

    // MARK: - What passes

    /// An OUT URB is about to go to the device.
    mutating func willSend(_ transfer: Transfer, _ bytes: borrowing Span<UInt8>, at now: () -> Instant) {
        guard let index = functionIndex(of: transfer.endpoint) else { return }
        functions[index].transport.willSend(transfer, bytes, at: now, &units)
    }

    /// An OUT URB has ended.
    mutating func sent(_ transfer: Transfer, succeeded: Bool, _ bytes: borrowing Span<UInt8>) {
        guard let index = functionIndex(of: transfer.endpoint) else { return }
        functions[index].transport.sent(transfer, succeeded: succeeded, bytes, &units)
    }

    /// An IN URB has brought this.
    mutating func received(_ transfer: Transfer, _ bytes: borrowing Span<UInt8>) {
        guard let index = functionIndex(of: transfer.endpoint) else { return }
        functions[index].transport.received(transfer, bytes, &units)
    }

    /// A request to an interface has succeeded.
    mutating func controlSucceeded(_ setup: SetupPacket) {
        // Bulk-Only Transport, 3.1.
        guard setup.kind == .class, setup.recipient == .interface, setup.bRequest == 0xff else { return }
        for index in functions.indices where UInt16(functions[index].interface.number.rawValue) == setup.wIndex {
            functions[index].transport.void(&units)
        }
    }

    /// The port was reset. What was written stays written, and not flushed.
    mutating func deviceWasReset() {
        for index in functions.indices { functions[index].transport.void(&units) }
    }

    mutating func configurationChanged(_ value: UInt8) {
        deviceWasReset()
        settings = ActiveSettings(descriptors, configurationValue: value)
        openFunctions(keeping: [])
    }

    mutating func interfaceChanged(_ interface: InterfaceNumber, alternate: UInt8) {
        for index in functions.indices where functions[index].interface.number == interface {
            functions[index].transport.void(&units)
        }
        settings.choose(interface, alternate: alternate, descriptors)
        openFunctions(keeping: functions)
    }

    private func functionIndex(of endpoint: EndpointAddress) -> Int? {
        let index = Int(functionIndexes[endpoint.index])
        return index >= 0 ? index : nil
    }

    private mutating func openFunctions(keeping old: [StorageFunction]) {
        functions = interfaces.filter {
            $0.configuration == settings.configurationValue && settings.alternates[$0.number] == $0.alternate
        }.map { interface in
            old.first { $0.interface == interface } ?? StorageFunction(interface)
        }
        functionIndexes = Array(repeating: -1, count: 32)
        for (index, function) in functions.enumerated() {
            for endpoint in function.interface.endpoints {
                functionIndexes[endpoint.index] = Int8(truncatingIfNeeded: index)
            }
        }
    }

    // MARK: - What is known

    var state: StorageState {
        StorageState(
            units: units.indices.map { index in
                StorageState.Unit(
                    interface: units[index].interface,
                    lun: units[index].lun,
                    writeCache: units[index].writeCache,
                    condition: condition(index),
                    lastChange: units[index].lastChange
                )
            }
        )
    }

    private func condition(_ index: Int) -> StorageState.Condition {
        if let since = units[index].dirtySince { return .dirty(since: since, bytes: units[index].dirtyBytes) }
        let oldest = functions.compactMap { $0.transport.oldestBusy(index) }.min { $0.began < $1.began }
        guard let oldest else { return .clean }
        return .inProgress(command: oldest.command.name, since: oldest.began)
    }
}
