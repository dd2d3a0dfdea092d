// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import NIOCore
internal import VUSBCore

/// A listening socket, and those of its connections that haven't imported anything.
///
/// Concurrency model: the acceptor's thread accepts and closes the socket; what is mutable is the loop's thread's.
package final class USBIPListener: USBIPListening, @unchecked Sendable {
    let definition: USBIPListenerDefinition
    let descriptor: Int32
    package let port: UInt16?
    private let acceptor: USBIPAcceptor
    private let catalogue: USBIPCatalogue
    private let loop: any EventLoop
    private let tell: @Sendable (USBIPEvent) -> Void
    private let patience: USBIPPatience

    // SAFETY: from here on all is the loop's thread's.
    /// In the order of their accepts.
    private var waiting: [USBIPConnection] = []
    private var lastReport: ContinuousClock.Instant?
    private var unreported = 0

    /// - Throws: as `USBIPSocket.listen`.
    init(
        _ definition: USBIPListenerDefinition, _ acceptor: USBIPAcceptor, _ catalogue: USBIPCatalogue,
        _ loop: any EventLoop, _ patience: USBIPPatience,
        tell: @escaping @Sendable (USBIPEvent) -> Void
    ) throws(USBError) {
        self.definition = definition
        self.acceptor = acceptor
        self.catalogue = catalogue
        self.loop = loop
        self.patience = patience
        self.tell = tell
        descriptor = try USBIPSocket.listen(at: definition.endpoint)
        if case .tcp = definition.endpoint {
            port = USBIPSocket.port(descriptor)
        } else {
            port = nil
        }
    }

    package func end() async {
        await acceptor.remove(self)
        await withCheckedContinuation { continuation in
            loop.execute {
                for connection in self.waiting { connection.refuse(nil) }
                continuation.resume()
            }
        }
        catalogue.remove(self)
    }

    /// On the acceptor's thread, last.
    func close() {
        if case .unix(let path, _, _) = definition.endpoint { USBIPSocket.removeSocket(path) }
        Glibc.close(descriptor)
    }

    // MARK: - The loop's thread

    /// K7 of USBIP.md.
    func add(_ connection: USBIPConnection) {
        if waiting.count >= USBIPLimits.waiting, let oldest = waiting.first {
            oldest.refuse("\(USBIPLimits.waiting) others have connected since, and it has imported nothing")
        }
        waiting.append(connection)
    }

    /// It has imported a device, or is gone.
    func remove(_ connection: USBIPConnection) {
        waiting.removeAll { $0 === connection }
    }

    func report(_ peer: String, _ reason: String) {
        let now = ContinuousClock.now
        if let lastReport, now - lastReport < patience.report {
            unreported += 1
            return
        }
        lastReport = now
        tell(.refused(listener: "\(definition.endpoint)", peer: peer, reason: reason, others: unreported))
        unreported = 0
    }
}
