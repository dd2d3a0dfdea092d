// SPDX-License-Identifier: Apache-2.0

/// The four transfer types, numbered as in `bmAttributes` of an endpoint descriptor (USB 2.0, table 9-13).
package enum TransferType: UInt8, Sendable {
    case control = 0
    case isochronous = 1
    case bulk = 2
    case interrupt = 3
}
