// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import Glibc

/// A thread that may go into other namespaces, since nothing else ever runs on it.
enum NamespaceThread {
    /// Handed to the thread and back: `result` is written by it, and read once it has been joined.
    private final class Work {
        let body: () -> Int32
        var result: Int32 = 0
        init(_ body: @escaping () -> Int32) { self.body = body }
    }

    /// Runs `body` on a new thread and waits for it.
    /// - Returns: what `body` does, or a negative errno where there is no thread to be had.
    static func run(_ body: () -> Int32) -> Int32 {
        withoutActuallyEscaping(body) { body in
            let work = Work(body)
            var thread = pthread_t()
            // SAFETY: the thread uses `work` until it is joined, and it is kept alive until then.
            let argument = unsafe Unmanaged.passUnretained(work).toOpaque()
            let code = unsafe pthread_create(&thread, nil, namespaceThreadMain, argument)
            guard code == 0 else { return -code }
            let joined = pthread_join(thread, nil)
            precondition(joined == 0)
            return withExtendedLifetime(work) { work.result }
        }
    }

    fileprivate static func main(_ argument: UnsafeMutableRawPointer) {
        unsafe CVUSBShims_set_thread_name("vusb-uevent")
        // SAFETY: as said in `run`.
        let work = unsafe Unmanaged<Work>.fromOpaque(argument).takeUnretainedValue()
        work.result = work.body()
    }
}

private func namespaceThreadMain(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    if let argument = unsafe argument { unsafe NamespaceThread.main(argument) }
    return nil
}
