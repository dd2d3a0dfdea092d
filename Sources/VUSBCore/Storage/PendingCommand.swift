// SPDX-License-Identifier: Apache-2.0

/// A command whose status hasn't come.
struct PendingCommand: Sendable {
    typealias Instant = ContinuousClock.Instant

    /// `dCBWTag`, or the tag of an information unit.
    let tag: UInt32
    /// The URB that brings it.
    let token: URBToken
    /// Its place in the tracker's `units`.
    let unit: Int
    let command: StorageCommand
    let began: Instant
    /// What had been written to the unit when it began: what a flush is known to cover.
    let mark: StorageUnit.Mark
    /// What the host announced to send; nil where the transport doesn't say.
    var announced: UInt64?
    /// Data that are looked at, at most `StorageTracker.dataLimit`.
    var data: [UInt8] = []

    mutating func take(_ bytes: borrowing Span<UInt8>) {
        let room = StorageTracker.dataLimit - data.count
        for index in 0..<max(0, min(room, bytes.count)) { data.append(bytes[index]) }
    }

    /// What its end means for its unit.
    func end(_ outcome: StorageTracker.Outcome, residue: UInt64 = 0, _ units: inout [StorageUnit]) {
        guard units.indices.contains(unit) else { return }
        switch command.effect {
        case .change(let settlement):
            if leavesChange(settlement, outcome, units[unit].writeCache) {
                let bytes = bytes(residue, units[unit].blockLength)
                units[unit].changed(bytes, began: began, isLater: settlement == .later)
            }
        case .synchronize: synchronized(outcome, &units[unit])
        case .stop: if outcome == .succeeded { units[unit].settled(mark, began: began) }
        case .modeSense(let format): answered(outcome, format, &units[unit])
        case .modeSelect(let format): if outcome == .succeeded { selected(format, &units[unit]) }
        case .readCapacity(let offset):
            if outcome == .succeeded, data.count >= offset + 4 {
                units[unit].learnedBlockLength((offset..<offset + 4).reduce(0) { $0 << 8 | UInt64(data[$1]) })
            }
        case .service, .requestSense: break
        }
    }

    /// Whether something may be left that isn't on the medium.
    private func leavesChange(
        _ settlement: StorageCommand.Settlement,
        _ outcome: StorageTracker.Outcome,
        _ cache: StorageState.WriteCache
    ) -> Bool {
        switch (settlement, outcome) {
        case (_, .refused), (.atStatus, .succeeded): false
        case (.later, _): true
        case (.byCache, _), (.atStatus, _): cache != .off
        }
    }

    private func bytes(_ residue: UInt64, _ blockLength: UInt64) -> UInt64 {
        if let announced { return announced - min(residue, announced) }
        let (product, overflows) = command.blocks.multipliedReportingOverflow(by: blockLength)
        return overflows ? .max : product
    }

    private func synchronized(_ outcome: StorageTracker.Outcome, _ unit: inout StorageUnit) {
        switch outcome {
        case .succeeded: unit.settled(mark, began: began)
        // There is no such command: it hasn't got a cache that can be flushed. What it said of one counts more.
        case .refused(isIllegal: true): if unit.writeCache == .unknown { unit.learned(false) }
        case .refused, .failed, .void: break
        }
    }

    private func answered(
        _ outcome: StorageTracker.Outcome,
        _ format: ModeParameters.Format,
        _ unit: inout StorageUnit
    ) {
        switch outcome {
        case .succeeded:
            switch ModeParameters.writeCacheEnable(data, format, isAnswer: true) {
            case .found(let isOn): unit.learned(isOn)
            case .absent: if unit.writeCache == .unknown { unit.learned(false) }
            case .cut: break
            }
        case .refused(isIllegal: true): if unit.writeCache == .unknown { unit.learned(false) }
        case .refused, .failed, .void: break
        }
    }

    /// Who turns the cache off has the device write what is in it first (SBC-4, 6.5.6).
    private func selected(_ format: ModeParameters.Format, _ unit: inout StorageUnit) {
        guard case .found(let isOn) = ModeParameters.writeCacheEnable(data, format, isAnswer: false) else { return }
        if !isOn { unit.settled(mark, began: began) }
        unit.learned(isOn)
    }
}

extension [StorageUnit] {
    /// Where the unit is, which is made if it's new.
    mutating func place(_ interface: InterfaceNumber, _ lun: UInt16) -> Int {
        let known = firstIndex { $0.interface == interface && $0.lun == lun && !$0.isShared }
        if let known { return known }
        guard count < StorageTracker.unitLimit else {
            self[count - 1].isShared = true
            return count - 1
        }
        append(StorageUnit(interface: interface, lun: lun))
        return count - 1
    }
}
