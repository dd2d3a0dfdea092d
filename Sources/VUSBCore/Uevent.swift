// SPDX-License-Identifier: Apache-2.0

/// What the kernel would say of a change among a guest's devices. How it's written in a message and sent,
/// `VUSBUevent` knows.
package struct Uevent: Sendable, Equatable {
    package enum Action: String, Sendable, CaseIterable {
        case add
        case remove
        case bind
        case unbind
    }

    /// One of the lines of a file `uevent`. Neither half has a NUL or a newline in it.
    package struct Property: Sendable, Equatable {
        package let key: String
        package let value: String

        package init(_ key: String, _ value: String) {
            self.key = key
            self.value = value
        }
    }

    package let action: Action
    /// Below /sys, beginning with `/`.
    package let devicePath: String
    package let subsystem: String
    /// As in the device's file `uevent`.
    package let properties: [Property]

    package init(_ action: Action, devicePath: String, subsystem: String, properties: [Property]) {
        self.action = action
        self.devicePath = devicePath
        self.subsystem = subsystem
        self.properties = properties
    }

    /// `usb_device`, `usb_interface`; nil where there is none.
    package var deviceType: String? { properties.first { $0.key == "DEVTYPE" }?.value }
}
