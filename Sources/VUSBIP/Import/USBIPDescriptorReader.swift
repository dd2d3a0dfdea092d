// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// Reads from a device what it says of itself, as a host's kernel does when it's plugged in.
struct USBIPDescriptorReader {
    private static let english: UInt16 = 0x0409
    /// Of a string descriptor.
    private static let longestString = 255

    let session: USBIPImportSession
    let limit: Duration

    /// - Throws: `invalid` for what contradicts itself or the server; `gone`, `io`.
    func record(_ id: DeviceID) async throws(USBError) -> DeviceRecord {
        let descriptors = try await descriptors()
        let device = descriptors.device
        let told = session.record
        guard device.idVendor == told.vendorID, device.idProduct == told.productID else {
            throw USBError(.invalid, "the device says that it's another one than the server says")
        }
        let language = try await language(device)
        return DeviceRecord(
            id: id, source: USBIPSource.sourceName, speed: told.speed, descriptors: descriptors,
            manufacturer: try await string(device.iManufacturer, language),
            product: try await string(device.iProduct, language),
            serial: try await string(device.iSerialNumber, language))
    }

    /// The device's and its configurations', as sysfs has them.
    func descriptors() async throws(USBError) -> Descriptors {
        var bytes = try await descriptor(DescriptorType.device, length: DeviceDescriptor.byteCount)
        guard bytes.count == DeviceDescriptor.byteCount else {
            throw USBError(.invalid, "the device descriptor has \(bytes.count) bytes")
        }
        let count = Int(bytes[DeviceDescriptor.byteCount - 1])
        for index in 0..<min(count, Descriptors.maximumConfigurationCount) {
            bytes += try await configuration(UInt8(index))
        }
        do {
            return try Descriptors(parsing: bytes)
        } catch {
            throw USBError(.invalid, "\(error)")
        }
    }

    private func configuration(_ index: UInt8) async throws(USBError) -> [UInt8] {
        let header = try await descriptor(DescriptorType.configuration, index, length: 9)
        guard header.count == 9 else {
            throw USBError(.invalid, "configuration \(index) has \(header.count) bytes")
        }
        let total = Int(header[2]) | Int(header[3]) << 8
        return try await descriptor(DescriptorType.configuration, index, length: max(total, 9))
    }

    private func descriptor(_ type: UInt8, _ index: UInt8 = 0, length: Int) async throws(USBError) -> [UInt8] {
        let (status, data) = try await session.control(.getDescriptor(type, index, length: length), within: limit)
        guard status == .success else {
            throw USBError(.io, "descriptor \(type) of the device can't be read: \(status.rawValue)")
        }
        return data
    }

    // MARK: - Strings

    /// Nil for a device that has none, or none that can be read: that's no fault.
    private func language(_ device: DeviceDescriptor) async throws(USBError) -> UInt16? {
        guard device.iManufacturer != 0 || device.iProduct != 0 || device.iSerialNumber != 0 else { return nil }
        guard let bytes = try await stringBytes(0, 0) else { return nil }
        // One that isn't a descriptor tells no language.
        guard let languages = try? StringDescriptor.languages(parsing: bytes) else { return nil }
        return languages.contains(Self.english) ? Self.english : languages.first
    }

    private func string(_ index: UInt8, _ language: UInt16?) async throws(USBError) -> String? {
        guard index != 0, let language, let bytes = try await stringBytes(index, language) else { return nil }
        // As with sysfs: what isn't a text isn't there.
        return try? StringDescriptor(parsing: bytes).text
    }

    private func stringBytes(_ index: UInt8, _ language: UInt16) async throws(USBError) -> [UInt8]? {
        let setup = SetupPacket.getDescriptor(
            DescriptorType.string, index, language: language, length: Self.longestString)
        let (status, data) = try await session.control(setup, within: limit)
        return status == .success ? data : nil
    }

    // MARK: - Settings

    /// What the device is configured as; where it isn't, its first configuration, as Linux chooses.
    func configurationValue(_ descriptors: Descriptors) async throws(USBError) -> UInt8 {
        let (status, data) = try await session.control(.getConfiguration, within: limit)
        if status == .success, let value = data.first, descriptors.configuration(value: value) != nil { return value }
        return descriptors.configurations.first?.bConfigurationValue ?? 0
    }
}
