// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// A port as a guest's own kernel names it, such as `3-1`, and which device that may be.
///
/// The port that a device was offered at isn't to be relied on: the guest's module takes another one where that is
/// taken. So the guest is asked what is there, and the device that has those ids is it.
struct GuestPort {
    let path: String

    /// The devices that it may be; none where the guest can't say.
    /// - Parameter read: the content of a file of the guest.
    func candidates(
        among records: [DeviceRecord], read: @Sendable (String) async -> Result<[UInt8], USBError>
    ) async -> Set<DeviceID> {
        // It becomes a path: from a hostile guest, and in that guest's own file system.
        let isName = !path.isEmpty && path.utf8.allSatisfy { (0x30...0x39).contains($0) || $0 == 0x2d || $0 == 0x2e }
        guard isName, path.utf8.contains(0x2d) else { return [] }
        guard let vendor = await attribute("idVendor", read), let product = await attribute("idProduct", read) else {
            return []
        }
        let serial = await attribute("serial", read)
        let fitting = records.filter { record in
            let device = record.descriptors.device
            return hexadecimal4(device.idVendor) == vendor && hexadecimal4(device.idProduct) == product
        }
        // A kernel may show a serial with odd characters in its own way: only one that is equal decides.
        let exact = fitting.filter { serial != nil && $0.serial == serial }
        return Set((exact.isEmpty ? fitting : exact).map(\.id))
    }

    private func attribute(_ name: String, _ read: @Sendable (String) async -> Result<[UInt8], USBError>) async
        -> String?
    {
        guard case .success(let bytes) = await read("/sys/bus/usb/devices/\(path)/\(name)") else { return nil }
        let text = String(decoding: bytes, as: UTF8.self)
        return text.hasSuffix("\n") ? String(text.dropLast()) : text
    }
}
