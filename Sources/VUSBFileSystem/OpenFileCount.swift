// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// How many endpoint files of an attachment are open; shared by the tree and the files.
final class OpenFileCount: Sendable {
    private let count = Atomic(0)

    var value: Int { count.load(ordering: .relaxed) }
    func increment() { count.wrappingAdd(1, ordering: .relaxed) }
    func decrement() { count.wrappingSubtract(1, ordering: .relaxed) }
}
