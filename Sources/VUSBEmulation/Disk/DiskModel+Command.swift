// SPDX-License-Identifier: Apache-2.0

import VUSBCore

// A command: is it one, and what it wants against what the host expects.
extension DiskModel {
    mutating func takeCommand(
        _ urb: borrowing URB,
        _ moved: inout Int,
        _ effects: inout Effects
    ) -> Verdict<Job> {
        let start = moved
        let wrapper = urb.requestedLength - start == CommandWrapper.byteCount ? Self.wrapper(urb, from: start) : nil
        moved = urb.requestedLength
        guard let wrapper else {
            phase = .invalid
            effects.halt.insert(Self.input)
            effects.halt.insert(Self.output)
            return .complete(.success)
        }
        status = StatusWrapper(tag: wrapper.tag, residue: wrapper.dataLength, status: .passed)
        effects.wake.insert(Self.input)
        return begin(disk.execute(wrapper.command), wrapper, &effects)
    }

    private static func wrapper(_ urb: borrowing URB, from start: Int) -> CommandWrapper? {
        switch urb.buffer {
        case .some(let buffer):
            buffer.withBytes(count: start + CommandWrapper.byteCount) { span in
                CommandWrapper(span.extracting(start..<start + CommandWrapper.byteCount))
            }
        case .none: nil
        }
    }

    // MARK: - What a command wants against what the host expects

    private mutating func begin(
        _ action: SCSIDisk.Action,
        _ wrapper: CommandWrapper,
        _ effects: inout Effects
    ) -> Verdict<Job> {
        switch action {
        case .fail:
            status.status = .failed
            endWithoutData(wrapper, &effects)
        case .finish: endWithoutData(wrapper, &effects)
        case .synchronize(let ejects):
            endWithoutData(wrapper, &effects)
            phase = .working
            return .perform(.synchronize(image, ejects: ejects))
        case .send(let reply):
            beginStage(wrapper, .in, UInt64(reply.count), &effects) {
                DataStage(reply: reply, total: $0, endsEarly: $1)
            }
        case .read(let offset, let count):
            beginStage(wrapper, .in, count, &effects) { DataStage(imageOffset: offset, total: $0, endsEarly: $1) }
        case .write(let offset, let count, let isDurable):
            beginStage(wrapper, .out, count, &effects) {
                DataStage(imageOffset: offset, isDurable: isDurable, total: $0, endsEarly: $1)
            }
        }
        return .complete(.success)
    }

    /// Cases 1, 4 and 9, and with a status of phase error also 8 and 10: nothing is moved; where the host expects data,
    /// the endpoint is halted instead.
    private mutating func endWithoutData(_ wrapper: CommandWrapper, _ effects: inout Effects) {
        phase = .status
        if wrapper.dataLength > 0 { effects.halt.insert(wrapper.direction == .in ? Self.input : Self.output) }
    }

    private mutating func beginStage(
        _ wrapper: CommandWrapper,
        _ direction: TransferDirection,
        _ count: UInt64,
        _ effects: inout Effects,
        _ make: (_ total: UInt64, _ endsEarly: Bool) -> DataStage
    ) {
        let expected = UInt64(wrapper.dataLength)
        guard count > 0 else { return endWithoutData(wrapper, &effects) }
        guard expected > 0, wrapper.direction == direction else {
            // Cases 2, 3, 8 and 10.
            status.status = .phaseError
            return endWithoutData(wrapper, &effects)
        }
        // Cases 7 and 13: as much as the host has room for, then a phase error.
        if count > expected { status.status = .phaseError }
        let stage = make(min(count, expected), count < expected)
        if direction == .in {
            status.residue = wrapper.dataLength - UInt32(truncatingIfNeeded: stage.total)
            phase = .sending(stage)
        } else {
            phase = .receiving(stage)
            effects.wake.insert(Self.output)
        }
    }
}
