// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// Attaches devices inside a guest that was made ready for it.
extension ModuleLoader {
    /// A9. Of several streams the first that isn't taken.
    /// - Parameter limit: for all of them together.
    /// - Returns: which stream it was.
    /// - Throws: `busy` where it's in use, or every port is.
    package func attach(
        _ busID: String, by way: AttachWay, limit: Duration
    ) async throws(USBError) -> AttachStream {
        let deadline = ContinuousClock.now + limit
        var last = USBError(.unsupported, "\(kernel.description) has no stream")
        for stream in way.streams {
            let result = try await kernel.run(
                way.path, way.attachArguments(stream, busID), limit: deadline - .now)
            guard !result.succeeded else { return stream }
            last = Self.failure(result)
            guard last.code == .busy, stream.isSerial, .now < deadline else { throw last }
        }
        throw last
    }

    /// `vusb-attach` ends with 4 where something is in use; usbip says so in words.
    private static func failure(_ result: ProgramResult) -> USBError {
        let said = PlainText.lastLines(result.errors.isEmpty ? result.output : result.errors)
        let isBusy = result.end == .exited(4) || said.lowercased().contains("busy")
        return USBError(isBusy ? .busy : .io, said.isEmpty ? "it failed with \(result.end)" : said)
    }
}
