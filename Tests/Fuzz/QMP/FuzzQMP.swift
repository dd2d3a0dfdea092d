// SPDX-License-Identifier: Apache-2.0

@testable import VUSBVMM

/// Feeds the fuzzer's bytes to what stands between QEMU's socket and the rest: lines, JSON, QMP's messages, lists of
/// objects. The first byte says where the bytes are cut, as a socket may.
@c(LLVMFuzzerTestOneInput)
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's contract: `count` readable bytes at `start` for the length of the call.
    let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    guard let first = bytes.first else { return 0 }
    var splitter = LineSplitter(limit: 256)
    var state = QEMUState()
    _ = state.connected(status: "running")
    var rest = bytes.dropFirst()
    while !rest.isEmpty {
        let chunk = rest.prefix(Int(first) + 1)
        rest = rest.dropFirst(chunk.count)
        splitter.append(chunk)
        while let line = splitter.next() { check(line, &state) }
    }
    return 0
}

private func check(_ line: LineSplitter.Line, _ state: inout QEMUState) {
    guard case .bytes(let bytes) = line else { return }
    precondition(!bytes.isEmpty && bytes.count <= 256 && !bytes.contains(0x0A))
    if let value = JSONValue(parsing: bytes) {
        // What was read is written as one line that reads as the same.
        let written = value.bytes
        precondition(!written.contains(0x0A))
        precondition(JSONValue(parsing: written) == value)
        checkObjects(value["return"] ?? value)
    }
    if case .event(let event)? = QMPMessage(parsing: bytes) {
        _ = state.take(event)
        _ = DeviceDeletion.device(in: event)
    }
}

/// As an answer to `qom-list`, `query-chardev` and, in its numbers, `qom-get`.
private func checkObjects(_ value: JSONValue) {
    let properties = QOMProperty.list(value)
    precondition(properties.allSatisfy { !$0.name.isEmpty && !$0.name.contains("/") })
    for id in QEMUPlug.devices(in: properties) { precondition(id.hasPrefix(QEMUPlug.prefix)) }
    for id in QEMUPlug.chardevs(in: value) { precondition(id.hasPrefix(QEMUPlug.prefix)) }
    for property in properties { _ = property.child.map { QEMUController.kind(ofType: $0) } }
    let number = value.integer ?? value.array?.first?.integer
    for first in [0, number ?? 0] {
        let ports = QEMUController.range(number, default: 2, after: first)
        precondition(ports.allSatisfy { (1...QEMUController.maximumPorts).contains($0) })
    }
}
