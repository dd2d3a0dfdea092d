// SPDX-License-Identifier: Apache-2.0

import Foundation

/// A directory that goes with its owner.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "/vusb-test-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit {
        // What is left of a test's files harms nobody.
        try? FileManager.default.removeItem(atPath: path)
    }
}
