// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

// File I/O, and what follows from it.
extension DiskModel {
    package static func perform(_ job: Job, _ urb: inout URB, mayBlock: Bool) -> Int? {
        let result: Int
        switch job {
        case .synchronize(let image, _):
            guard mayBlock else { return nil }
            return image.file.synchronize()
        case .read(let piece):
            guard let memory = unsafe urb.memory else { return -5 }
            // SAFETY: position + count is at most requestedLength, which the buffer holds; the URB is this thread's.
            result = unsafe piece.image.file.read(
                into: memory + piece.position,
                count: piece.count,
                at: piece.offset,
                mayBlock: mayBlock
            )
        case .write(let piece, let isDurable):
            // A durable write always waits.
            guard mayBlock || !isDurable else { return nil }
            guard let memory = unsafe urb.memory else { return -5 }
            // SAFETY: as above.
            result = unsafe piece.image.file.write(
                from: memory + piece.position,
                count: piece.count,
                at: piece.offset,
                isDurable: isDurable,
                mayBlock: mayBlock
            )
        }
        // EAGAIN, EOPNOTSUPP, or only a part: all of it again, where it may wait.
        return mayBlock || result == job.count ? result : nil
    }

    package mutating func performed(
        _ job: Job,
        result: Int,
        on endpoint: EndpointDescriptor,
        _ urb: inout URB,
        moved: inout Int,
        effects: inout Effects
    ) -> Verdict<Job> {
        switch job {
        case .synchronize(_, let ejects):
            phase = .status
            effects.wake.insert(Self.input)
            if result < 0 {
                fail(.writeError)
            } else if ejects {
                disk.ejected()
            }
            return .complete(.success)
        case .read(let piece):
            guard let stage, result == piece.count else { return failed(.readError, .in, moved, &effects) }
            return sent(result, stage, &urb, endpoint, &moved, &effects)
        case .write(let piece, _):
            guard let stage, result == piece.count else { return failed(.writeError, .out, moved, &effects) }
            return received(result, stage, urb, endpoint, &moved, &effects)
        }
    }

    private mutating func fail(_ sense: Sense) {
        disk.fail(sense)
        status.status = .failed
    }

    /// The image gave an error, or is shorter than it was: the data end with a halt.
    private mutating func failed(
        _ sense: Sense,
        _ direction: TransferDirection,
        _ moved: Int,
        _ effects: inout Effects
    ) -> Verdict<Job> {
        if direction == .in, let stage { status.residue += UInt32(truncatingIfNeeded: stage.left) }
        fail(sense)
        phase = .status
        effects.halt.insert(direction == .in ? Self.input : Self.output)
        effects.wake.insert(Self.input)
        return .complete(.stall)
    }
}

extension DiskModel.Job {
    /// Bytes that it's to move.
    fileprivate var count: Int {
        switch self {
        case .read(let piece), .write(let piece, _): piece.count
        case .synchronize: 0
        }
    }
}
