// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import Glibc

/// Starts a detached thread that runs one function.
package enum DetachedThread {
    fileprivate final class Start: Sendable {
        let name: String
        let body: @Sendable () -> Void

        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }

    /// - Parameters:
    ///   - name: at most 15 bytes, as the kernel shows it.
    ///   - stackSize: bytes; nil for the system's.
    /// - Returns: 0 or an errno.
    package static func start(
        name: String, stackSize: Int? = nil, body: @escaping @Sendable () -> Void
    ) -> Int32 {
        var attributes = pthread_attr_t()
        unsafe pthread_attr_init(&attributes)
        defer { unsafe pthread_attr_destroy(&attributes) }
        unsafe pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        if let stackSize { unsafe pthread_attr_setstacksize(&attributes, stackSize) }
        // Balanced in detachedThreadMain, or below where there is no thread to run it.
        let argument = unsafe Unmanaged.passRetained(Start(name: name, body: body)).toOpaque()
        var thread = pthread_t()
        let code = unsafe pthread_create(&thread, &attributes, detachedThreadMain, argument)
        if code != 0 { unsafe Unmanaged<Start>.fromOpaque(argument).release() }
        return code
    }
}

/// File scope: a C function pointer.
private func detachedThreadMain(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument = unsafe argument else { return nil }
    // SAFETY: start passed a retained Start, and this thread is the only one to take it.
    let start = unsafe Unmanaged<DetachedThread.Start>.fromOpaque(argument).takeRetainedValue()
    unsafe CVUSBShims_set_thread_name(start.name)
    start.body()
    return nil
}
