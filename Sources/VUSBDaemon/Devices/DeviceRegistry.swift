// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

/// The devices that the sources have. A value without a lock of its own; `ControlPlane` guards it.
struct DeviceRegistry: Sendable {
    private(set) var entries: [DeviceID: DeviceEntry] = [:]
    /// Devices that aren't taken, with the reason.
    private(set) var refusals: [DeviceID: Refusal] = [:]

    struct Refusal: Sendable, Equatable {
        var source: String
        var reason: String
    }

    subscript(_ id: DeviceID) -> DeviceEntry? {
        get { entries[id] }
        set { entries[id] = newValue }
    }

    var count: Int { visible.count + refusals.count }
    var attachments: [Attachment] { entries.values.compactMap(\.attachment) }

    /// In the order of their ids.
    var visible: [DeviceRecord] { entries.values.compactMap(\.visibleRecord).sorted { $0.id < $1.id } }

    /// The guest's, in the order of their paths.
    func attachments(of guest: String) -> [Attachment] {
        attachments.filter { $0.guest == guest }.sorted { $0.slot < $1.slot }
    }

    // MARK: - Changes

    mutating func refuse(_ id: DeviceID, source: String, reason: String) {
        refusals[id] = Refusal(source: source, reason: reason)
    }

    mutating func forgetRefusal(_ id: DeviceID) -> Refusal? { refusals.removeValue(forKey: id) }

    // MARK: - Names

    /// The device that a name means.
    /// - Throws: `notFound`, or `ambiguous` with the candidates' ids.
    func resolve(_ name: String) throws(Problem) -> DeviceID {
        guard let selector = DeviceSelector(name) else {
            throw Problem(
                .notFound,
                "\(quoted(name)) names no device",
                remedy: "give a device id such as 1-2, VID:PID or VID:PID:SERIAL; `vusbctl devices` lists them"
            )
        }
        if case .id(let id) = selector, entries[id]?.visibleRecord != nil || refusals[id] != nil { return id }
        let candidates = visible.filter(selector.matches).map(\.id)
        switch candidates.count {
        case 0:
            throw Problem(.notFound, "no device \(quoted(name))", remedy: "`vusbctl devices` lists what there is")
        case 1: return candidates[0]
        default:
            throw Problem(
                .ambiguous,
                "\(quoted(name)) fits \(candidates.count) devices",
                remedy: "name one of them by its id or with its serial",
                candidates: candidates.map(\.rawValue)
            )
        }
    }
}

/// A name from outside in a message: printable, in quotes, and cut where it's long.
func quoted(_ name: String) -> String {
    let shown = name.unicodeScalars.prefix(64).map {
        $0.isASCII && $0.value >= 32 ? String($0) : $0.escaped(asASCII: true)
    }
    return "'" + shown.joined() + (name.unicodeScalars.count > 64 ? "...'" : "'")
}
