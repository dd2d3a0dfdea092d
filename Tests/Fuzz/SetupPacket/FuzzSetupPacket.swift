// SPDX-License-Identifier: Apache-2.0

import VUSBCore
import VUSBTestSupport

/// Submits a control transfer as the fuzzer wants it to a device that answers everything: the first eight bytes are
/// the setup packet, what follows is the data stage.
@c(LLVMFuzzerTestOneInput)
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's contract: `count` readable bytes at `start` for the length of the call.
    let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    guard let setup = SetupPacket(bytes.span), let descriptors = try? SampleDevice.zero() else { return 0 }
    precondition(setup.bytes == Array(bytes.prefix(SetupPacket.byteCount)))
    let data = Array(bytes.dropFirst(SetupPacket.byteCount))
    let pool = BufferPool()
    let device = SampleDevice.attach(ScriptedBackend(always: .complete()), descriptors: descriptors, pool: pool)
    let handler = RecordingHandler()
    // As a front sends it that doesn't check, then as one does.
    var buffer = pool.take(data.count)
    buffer?.copy(data)
    let raw = URB(
        endpoint: .control,
        setup: setup,
        buffer: buffer,
        requestedLength: data.count,
        handler: handler,
        context: 1
    )
    device.submit(raw)
    let padded = data + Array(repeating: 0, count: max(0, Int(setup.wLength) - data.count))
    let exact = Array(padded.prefix(Int(setup.wLength)))
    device.submit(TestURB.control(setup, data: exact, pool: pool, handler: handler, context: 2))
    precondition(handler.completions.count == 2)
    precondition(device.inFlight == 0 && pool.outstanding == 0)
    return 0
}
