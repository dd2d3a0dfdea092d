// SPDX-License-Identifier: Apache-2.0

/// How devices are attached inside a guest, as it was found when the guest was loaded.
package struct AttachWay: Sendable, Hashable {
    /// A client of USB/IP in the guest.
    package enum Program: Sendable, Hashable {
        case usbip(String)
        case helper(String)
    }

    package var program: Program
    /// One, or serial ports, each of which takes a device.
    package var streams: [AttachStream]

    package init(program: Program, streams: [AttachStream]) {
        self.program = program
        self.streams = streams
    }

    /// What a person would type, of the first stream.
    package func command(_ busID: String) -> String { streams.first.map { $0.command(busID) } ?? "" }

    var path: String {
        switch program {
        case .usbip(let path), .helper(let path): path
        }
    }

    /// Whether the program can use such a stream.
    func takes(_ stream: AttachStream) -> Bool {
        switch (program, stream) {
        case (.helper, _), (.usbip, .tcp): true
        case (.usbip, .vsock), (.usbip, .serial), (.usbip, .unix): false
        }
    }

    func listArguments(_ stream: AttachStream) -> [String] {
        switch program {
        case .usbip: stream.usbipArguments(["list"])
        case .helper: ["-l", "\(stream)"]
        }
    }

    func attachArguments(_ stream: AttachStream, _ busID: String) -> [String] {
        switch program {
        case .usbip: stream.usbipArguments(["attach"]) + ["-b", busID]
        case .helper: (stream.isSerial ? ["-d"] : []) + ["\(stream)", busID]
        }
    }
}
