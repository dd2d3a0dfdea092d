// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

/// Somebody's word that a device isn't to be taken. Arbiter.md, B1.
extension ControlPlane {
    func hold(_ name: String, _ request: HoldRequest) throws(Problem) -> DeviceInfo {
        try checkRunning()
        let id = try deviceRegistry.resolve(name)
        guard let entry = deviceRegistry[id], entry.attachment != nil, !entry.hasLeft else {
            throw Problem(.conflict, "device \(id) isn't attached", remedy: "hold it once a guest has it")
        }
        try checkIsCallers(entry.guest, id)
        let seconds = request.seconds ?? Hold.defaultLength
        deviceRegistry[id]?.hold = Hold(
            until: wallClock() + seconds, end: .now + .seconds(seconds), reason: request.reason)
        return try device(id.rawValue)
    }

    func endHold(_ name: String) throws(Problem) {
        let id = try deviceRegistry.resolve(name)
        guard let hold = deviceRegistry[id]?.hold, !hold.isOver else {
            throw Problem(.conflict, "nobody holds device \(id)", remedy: "there is nothing to end")
        }
        try checkIsCallers(deviceRegistry[id]?.guest, id)
        deviceRegistry[id]?.hold = nil
    }
}
