// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Devices: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Lists the host's devices.")

    @OptionGroup var common: CommonOptions

    func run() async throws {
        try await common.run { client in
            let devices = try await client.devices()
            if common.json { try Output.json(devices) } else { try Output.print(Self.text(devices)) }
        }
    }

    private static func text(_ devices: [DeviceInfo]) -> String {
        var table = Table("DEVICE", "VID:PID", "SERIAL", "SPEED", "STATE", "GUEST", "PATH", "WAITING", "NAME")
        for device in devices {
            let name = [device.manufacturer, device.product].compactMap { $0 }.joined(separator: " ")
            table.add(
                device.id, "\(device.idVendor):\(device.idProduct)", device.serial, device.speed,
                device.state.rawValue, device.attachment?.guest, device.attachment?.path,
                device.waiting.joined(separator: " "), name)
        }
        let reasons = devices.compactMap { device in
            device.reason.map { Output.harmless("\(device.id): \($0)") }
        }
        return ([table.text] + (reasons.isEmpty ? [] : [""]) + reasons).joined(separator: "\n")
    }
}
