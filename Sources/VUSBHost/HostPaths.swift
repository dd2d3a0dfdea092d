// SPDX-License-Identifier: Apache-2.0

/// Where the host's kernel shows its USB devices. Tests put a directory of their own in its place.
package struct HostPaths: Sendable {
    /// One directory a device (`1-2.3`) and one an interface (`1-2.3:1.0`).
    package var sysfsDevices = "/sys/bus/usb/devices"
    /// `BBB/DDD` below it is the device's usbfs node.
    package var nodes = "/dev/bus/usb"
    /// Has `usbfs_memory_mb`.
    package var usbcoreParameters = "/sys/module/usbcore/parameters"
    /// Has `1/mountinfo`, `self/mountinfo` and `swaps`.
    package var proc = "/proc"
    /// There where the kernel has virtual terminals.
    package var virtualTerminal = "/sys/class/tty/tty0"
    /// There while udevd runs, which sets the permissions of nodes a little after the kernel made them.
    package var udevControl = "/run/udev/control"

    package init() {}

    /// The usbfs node; numbers have three digits at least.
    func node(bus: Int, device: Int) -> String {
        "\(nodes)/\(Self.threeDigits(bus))/\(Self.threeDigits(device))"
    }

    private static func threeDigits(_ number: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 3 - digits.count)) + digits
    }
}
