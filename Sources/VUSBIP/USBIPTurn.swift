// SPDX-License-Identifier: Apache-2.0

/// Whose turn it is to answer.
enum USBIPTurn {
    /// Whoever has something to answer takes it.
    case nobody
    /// The loop's: it reads, or has been woken.
    case loop
    /// That of a thread which has completed a URB.
    case source
    /// All that ends is dropped.
    case gone
}
