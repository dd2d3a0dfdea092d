// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import VUSBCore

/// Runs what may block on a thread of libdispatch's: those of Swift's tasks are few and must not wait.
enum BlockingWork {
    static func run<T: Sendable>(_ body: @escaping @Sendable () throws(USBError) -> T) async throws(USBError) -> T {
        let result: Result<T, USBError> = await withCheckedContinuation { continuation in
            DispatchQueue.global().async {
                continuation.resume(returning: Result { () throws(USBError) in try body() })
            }
        }
        return try result.get()
    }
}
