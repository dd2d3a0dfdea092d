// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VUSBCore

/// Streams: transfers that are kept in flight without the peer's asking for each.
extension RedirSession {
    // MARK: - The loop's thread

    func startStream(_ wish: RedirStreamWish) {
        let address = EndpointAddress(rawValue: wish.endpoint)
        let endpoint = address.rawValue == wish.endpoint ? device.endpoint(address) : nil
        let isNew = state.withLock { state -> Bool in
            guard let size = RedirStream.size(for: wish, on: endpoint), state.streams[address.index] == nil else {
                return false
            }
            state.lastGeneration += 1
            state.streams[address.index] = RedirStream(
                wish, address: address, size: size, generation: state.lastGeneration)
            return true
        }
        reader.parser?.sendStream(
            wish.kind, endpoint: wish.endpoint, streamID: wish.streamID, isNew ? .success : .invalid)
        reader.parser?.flush()
        if isNew { pump(address.index) }
    }

    func stopStream(_ kind: RedirStream.Kind, _ endpoint: UInt8, _ streamID: UInt32) {
        endStreams { $0.wish.kind == kind && $0.wish.endpoint == endpoint }
        reader.parser?.sendStream(kind, endpoint: endpoint, streamID: streamID, .success)
    }

    /// Ends streams without a word.
    func endStreams(_ isMeant: (RedirStream) -> Bool) {
        for index in state.withLock({ $0.streamIndices }) {
            let tokens = state.withLock { state -> [URBToken] in
                guard let stream = state.streams[index], isMeant(stream) else { return [] }
                state.streams[index] = nil
                return state.cancel(index, stream.generation)
            }
            for token in tokens { device.cancel(token) }
        }
        dropUnsent()
    }

    /// Gives back what was filled for streams that there aren't any more.
    func dropUnsent() {
        for slot in state.withLock({ $0.orphans }) {
            let orphan = state.withLock { state in state.takeOrphan(slot) }
            _ = consume orphan
        }
    }

    /// Adds a packet to the URB that is being filled. One that is too long, or for which there is no room, is dropped:
    /// that is what the wire does with what comes too late.
    func addPacket(_ endpoint: UInt8, _ length: Int, _ data: consuming TransferBuffer?) {
        let index = EndpointAddress(rawValue: endpoint).index
        guard var filling = state.withLock({ state in state.takeFilling(index) }) else { return }
        guard length <= filling.size, filling.prepare(device.pool) else { return put(filling, index) }
        filling.add(data, length: length)
        put(filling, index)
        pump(index)
    }

    private func put(_ filling: consuming RedirFilling, _ index: Int) {
        var filling: RedirFilling? = consume filling
        state.withLock { state in
            if let value = filling.take() { filling = state.putFilling(value, index) }
        }
    }

    // MARK: - Any thread

    /// Submits what the stream lacks. A URB may end within `submit`, on this thread: who finds somebody here leaves it
    /// to them.
    func pump(_ index: Int) {
        guard state.withLock({ $0.beginPumping(index) }) else { return }
        while let next = state.withLock({ state in state.nextOfStream(index) }) { submit(next) }
    }

    private func submit(_ next: consuming RedirSubmission) {
        let (slot, serial, generation, index) = (next.slot, next.serial, next.generation, next.address.index)
        guard let urb = next.urb(self, device.pool) else {
            state.withLock { $0.slots.release(slot) }
            return endFailed(index, generation)
        }
        submit(urb, slot: slot, serial)
    }

    func continueStream(_ index: Int, _ generation: Int, _ slot: Int, _ urb: consuming URB) {
        let fate = state.withLock { $0.fate(of: urb.status, index, generation) }
        switch fate {
        case .over:
            state.withLock { $0.slots.release(slot) }
            // One that went on before all that it had was taken back.
            pump(index)
        case .failed:
            state.withLock { $0.slots.release(slot) }
            endFailed(index, generation)
        case .goesOn(let stream, let form):
            if stream.isOut {
                state.withLock { $0.slots.release(slot) }
            } else {
                send(urb, of: stream, form, slot)
            }
            pump(index)
        }
    }

    /// The guest is told that it has stalled: it clears that and begins anew.
    private func endFailed(_ index: Int, _ generation: Int) {
        let ended = state.withLock { state -> (RedirStreamWish, [URBToken])? in
            guard let stream = state.streams[index], stream.generation == generation else { return nil }
            state.streams[index] = nil
            return (stream.wish, state.cancel(index, generation))
        }
        guard let (wish, tokens) = ended else { return }
        for token in tokens { device.cancel(token) }
        dropUnsent()
        give(.streamEnded(wish))
    }

    private func send(_ urb: consuming URB, of stream: RedirStream, _ form: RedirForm, _ slot: Int) {
        let isIsochronous = stream.wish.kind == .isochronous
        var headers = isIsochronous ? packetHeaders(urb, of: stream, form) : nil
        let status = RedirStatusCode(urb.status)
        let dataCount = isIsochronous ? 0 : min(urb.actualLength, urb.bufferCapacity)
        let byteCount = isIsochronous ? urb.isochronousByteCount(form) : 0
        var urb: URB? = consume urb
        state.withLock { state in
            guard state.phase != .closed, !isIsochronous || headers != nil else { return state.slots.release(slot) }
            if isIsochronous {
                state.slots[slot].headerCount = 0
                state.slots[slot].byteCount = byteCount
            } else {
                let header = RedirHeader(of: stream, id: stream.nextID, status, dataCount: dataCount, form)
                state.slots.setHeader(header, of: slot)
                state.slots[slot].byteCount = header.count + dataCount
            }
            state.slots[slot].dataCount = dataCount
            state.slots[slot].headers = headers.take()
            state.slots[slot].urb = urb.take()
            state.send(slot)
        }
        flush()
    }

    private func packetHeaders(_ urb: borrowing URB, of stream: RedirStream, _ form: RedirForm) -> TransferBuffer? {
        let length = RedirHeader.isochronousLength(form)
        guard var headers = device.pool.take(urb.packetCount * length) else { return nil }
        for index in 0..<urb.packetCount {
            guard let packet = urb.packet(at: index) else { continue }
            let header = RedirHeader(
                of: stream, id: stream.nextID + UInt64(index), RedirStatusCode(packet.status),
                dataCount: Int(min(packet.actualLength, packet.length)), form)
            headers.withMutableBytes(count: (index + 1) * length) { bytes in
                for position in 0..<header.count { bytes[index * length + position] = header.bytes[position] }
            }
        }
        return headers
    }
}

extension URB {
    fileprivate func isochronousByteCount(_ form: RedirForm) -> Int {
        (0..<packetCount).reduce(0) { sum, index in
            let data = packet(at: index).map { Int(min($0.actualLength, $0.length)) } ?? 0
            return sum + RedirHeader.isochronousLength(form) + data
        }
    }
}
