// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
package import Logging
internal import NIOCore
internal import NIOPosix
internal import Synchronization
package import VUSBCore

/// The source of devices that other USB/IP servers have.
///
/// Concurrency model: any task adds, forgets and opens. The imports, and the loop that is made with the first, are in one
/// `Mutex`, held across no call to an import.
package final class USBIPSource: DeviceSource {
    static let sourceName = "usbip"
    /// Imports at once, at most.
    package static let maximumImports = 64

    private struct State {
        var imports: [DeviceID: USBIPImport] = [:]
        var group: MultiThreadedEventLoopGroup?
        var isStopped = false
    }

    package var name: String { Self.sourceName }
    private let patience: USBIPImportPatience
    private let loops: USBIPLoopGuard
    private let logger: Logger
    private let stream: AsyncStream<DeviceEvent>
    private let continuation: AsyncStream<DeviceEvent>.Continuation
    private let state = Mutex(State())

    /// - Parameter loops: with whose front it doesn't import from itself.
    package init(
        patience: USBIPImportPatience = USBIPImportPatience(), loops: USBIPLoopGuard = USBIPLoopGuard(), logger: Logger
    ) {
        self.patience = patience
        self.loops = loops
        self.logger = logger
        (stream, continuation) = AsyncStream.makeStream(of: DeviceEvent.self)
    }

    // MARK: - DeviceSource

    package func start() throws(USBError) -> AsyncStream<DeviceEvent> { stream }

    package func open(_ record: DeviceRecord, isForced: Bool) async throws(USBError) -> OpenedDevice {
        try await found(record.id).open(record)
    }

    package func stop() async {
        let (imports, group) = state.withLock { state in
            state.isStopped = true
            defer { (state.imports, state.group) = ([:], nil) }
            return (Array(state.imports.values), state.group)
        }
        // All at once: one of which a name is being resolved takes as long as that.
        await withDiscardingTaskGroup { group in
            for entry in imports { group.addTask { await entry.end() } }
        }
        continuation.finish()
        // It fails only where it was ended before.
        try? await group?.shutdownGracefully()
    }

    // MARK: - Imports

    /// In the order of their ids.
    package func imports() -> [USBIPImportStatus] {
        state.withLock { Array($0.imports.values) }.map(\.status).sorted { $0.id < $1.id }
    }

    /// Begins to import, and keeps at it until `forget`. Returns at once; the device arrives in the stream.
    /// - Parameter name: for the id, `ip-NAME`; nil for one that is made of server and busid.
    /// - Throws: `busy` where the id or the remote is taken, or there are `maximumImports`; `invalid` for the name.
    package func add(_ remote: USBIPRemote, name: String?) throws(USBError) -> DeviceID {
        let id = try remote.id(name: name)
        let entry = try state.withLock { state throws(USBError) in
            try Self.check(state, id, remote)
            let group = state.group ?? Self.makeGroup()
            state.group = group
            let around = USBIPImport.Surroundings(
                group: group, patience: patience, loops: loops, logger: logger
            ) { [continuation] in continuation.yield($0) }
            let entry = USBIPImport(id, remote, around)
            state.imports[id] = entry
            return entry
        }
        entry.start()
        return id
    }

    private static func check(_ state: State, _ id: DeviceID, _ remote: USBIPRemote) throws(USBError) {
        guard !state.isStopped else { throw USBError(.cancelled, "vusbd stops") }
        guard state.imports[id] == nil else {
            throw USBError(.busy, "there is an import \(id) already", remedy: "give it another name")
        }
        if let other = state.imports.values.first(where: { $0.remote == remote }) {
            throw USBError(.busy, "it's imported already, as \(other.id)")
        }
        guard state.imports.count < maximumImports else {
            throw USBError(.busy, "there are \(maximumImports) imports already", remedy: "forget one that nobody needs")
        }
    }

    private static func makeGroup() -> MultiThreadedEventLoopGroup {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        group.any().execute {
            RealTime.enter()
            unsafe CVUSBShims_set_thread_name("vusb-import")
        }
        return group
    }

    /// Returns when the first try has succeeded.
    /// - Throws: what it has failed with (others follow meanwhile); `notFound`.
    package func firstTry(of id: DeviceID) async throws(USBError) {
        try await found(id).firstTry.value().get()
    }

    /// Ends it: the device leaves, the session is closed when this returns.
    /// - Throws: `notFound`.
    package func forget(_ id: DeviceID) async throws(USBError) {
        let entry = try found(id)
        await entry.end()
        state.withLock { if $0.imports[id] === entry { $0.imports[id] = nil } }
    }

    private func found(_ id: DeviceID) throws(USBError) -> USBIPImport {
        guard let entry = state.withLock({ $0.imports[id] }) else {
            throw USBError(.notFound, "nothing is imported as \(id)", remedy: "look at the list of imports")
        }
        return entry
    }

    /// What a server has to lend.
    /// - Throws: `notFound`, `accessDenied`, `io` where it can't be reached; `timedOut`; `invalid` for an answer that isn't one.
    package static func offers(of server: USBIPServer, within limit: Duration) async throws(USBError) -> USBIPOfferList
    {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let result: Result<USBIPOfferList, USBError>
        do throws(USBError) {
            result = .success(try await USBIPOfferConnection.offers(of: server, within: limit, group))
        } catch {
            result = .failure(error)
        }
        // It fails only where it was ended before.
        try? await group.shutdownGracefully()
        return try result.get()
    }
}
