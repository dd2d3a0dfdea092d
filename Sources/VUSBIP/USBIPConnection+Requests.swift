// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import NIOPosix
internal import Synchronization
internal import VUSBCore

/// What a peer asks before it has a device: a list, or an import.
extension USBIPConnection {
    func takeRequest(_ bytes: RawSpan, _ guest: String) throws(USBIPViolation) -> Int {
        let (request, count) = try requestReader.take(bytes)
        switch request {
        case nil: break
        case .list: list(guest)
        case .importDevice(let busID): importDevice(guest, busID)
        }
        return count
    }

    private func list(_ guest: String) {
        let records = catalogue.exports(of: guest).map { USBIPDeviceRecord($0.place, $0.device) }
        var buffer = ByteBuffer()
        USBIPDeviceRecord.appendList(records, to: &buffer)
        conclude(buffer)
    }

    private func importDevice(_ guest: String, _ busID: [UInt8]) {
        if loops?.isOwn(identity) == true { return deny(.noDevice, "a device of its own: it's this vusbd itself") }
        let export = catalogue.export(of: guest, busID: busID)
        guard let export else { return deny(.noDevice, "a device that it doesn't hold") }
        switch export.take(self) {
        case .gone: deny(.noDevice, "a device that it doesn't hold")
        case .busy: deny(.busy, "\(export.place.path), which is in use")
        case .taken(let isQuiet): begin(export, isQuiet)
        }
    }

    private func deny(_ status: USBIPOperationStatus, _ what: String) {
        listener.report("\(identity)", "it has asked for \(what)")
        var buffer = ByteBuffer()
        USBIPDeviceRecord.append(USBIPNumbers.replyImport, status, to: &buffer)
        conclude(buffer)
    }

    private func begin(_ export: USBIPExport, _ isQuiet: Bool) {
        guard let context else { return export.returned(peer: "\(identity)", .closed, unfinished: 0) }
        timer?.cancel()
        listener.remove(self)
        let session = USBIPSession(
            export.device, deviceID: export.place.deviceID, peer: "\(identity)", context.channel.allocator
        ) {
            [weak self, loop] in
            guard let self else { return }
            loop.execute {
                self.answer()
                self.processHeld()
            }
        }
        phase = .serving(session, export)
        self.session = session
        self.isQuiet = isQuiet
        served.withLock { $0 = session }
        // It can't fail: the channel is this one's.
        try? context.channel.syncOptions?.setOption(
            .recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: USBIPLimits.receiveBuffer))
        session.outgoing.fill { USBIPDeviceRecord(export.place, export.device).appendImport(to: &$0) }
        export.imported(peer: session.peer)
        if let socket { session.setSender(USBIPSender(socket)) }
        answer()
        // Who has gone meanwhile has ended it.
        guard case .serving = phase else { return }
        // Not by the loop's own timers: with one of those it reads the clock several times a round, and sets its timer.
        watch = MultiThreadedEventLoopGroup.singleton.any().scheduleRepeatedTask(
            initialDelay: TimeAmount(patience.look), delay: TimeAmount(patience.look)
        ) { [weak self, loop] _ in loop.execute { [weak self] in self?.look() } }
    }

    /// K4 of USBIP.md.
    private func look() {
        guard let waiting = waitingBytes else { return }
        guard watcher.isStuck(waiting, for: patience.reading) else { return }
        end(.deaf)
    }
}
