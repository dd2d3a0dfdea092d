// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore

@testable import VUSBDaemon

/// Notes what is exported.
final class TestExports: GuestExporting {
    private let published = Mutex<Set<String>>([])

    var guests: Set<String> { published.withLock { $0 } }

    func path(of guest: String) -> String { "/exports/\(guest)" }
    func publish(_ guest: String) { published.withLock { _ = $0.insert(guest) } }
    func withdraw(_ guest: String) { published.withLock { _ = $0.remove(guest) } }
    func remove(_ guest: String) { withdraw(guest) }
    func removeAll(except guests: Set<String>) { published.withLock { $0.formIntersection(guests) } }
}
