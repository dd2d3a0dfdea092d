// SPDX-License-Identifier: Apache-2.0

internal import Foundation
package import Logging
internal import VUSBControl
internal import VUSBCore
internal import VUSBEmulation
internal import VUSBVMM

/// Command line, configuration and defaults in one: what the daemon runs with.
package struct DaemonSettings: Sendable {
    package var mount: String
    package var socket: String
    package var socketGroup: String
    package var socketMode: UInt32
    /// The directory in which machines' exporters find their guests' directories: beside the socket.
    package var exports: String
    /// The directory of the sockets at which machines get their devices in mode `redirect`: beside the socket, too.
    package var redirectDirectory: String
    package var state: String
    package var images: String
    package var host: Bool
    package var emulate: [String]
    package var readers: Int
    package var realtime: Bool
    package var logLevel: Logger.Level
    /// Where builds of the USB module are looked for: those that were named, then the usual places.
    package var modules: [String]
    /// Where `vusb-attach` is looked for: the one that was named, or beside the modules that were and in the usual places.
    package var attachHelpers: [String]
    var guests: [ConfiguredGuest]
    var claims: [ClaimSpec]
    var focus: [FocusSet]
    var health: HealthLimits
    var auto: ModeMeter.Rule
    var usbip: [USBIPListenerSpec]
    var imports: [ImportSpec]
    var access: [AccessRule]

    /// Reads the configuration and checks all, before anything is touched. The command line overrides.
    /// - Throws: `DaemonFailure` with everything that is wrong.
    package init(_ options: DaemonOptions) throws(DaemonFailure) {
        let configuration: Configuration
        do {
            configuration = try ConfigurationFile.read(options.config)
        } catch {
            throw DaemonFailure("\(error)")
        }
        self.init(options, configuration)
        if let path = options.attachHelper ?? configuration.attachHelper {
            try Self.check(
                helper: Self.absolute(path), options.attachHelper == nil ? "attach-helper:" : "--attach-helper")
        }
        // Those of the configuration were checked with it, by line.
        try Self.check(options.emulate)
    }

    init(_ options: DaemonOptions, _ configuration: Configuration) {
        let state = Self.absolute(options.state ?? configuration.state ?? "/var/lib/vusb")
        mount = Self.absolute(options.mount ?? configuration.mount ?? "/vusb")
        socket = Self.absolute(options.socket ?? configuration.socket ?? "/run/vusb/vusb.sock")
        socketGroup = configuration.socketGroup ?? "vusb"
        socketMode = UInt32(configuration.socketMode ?? 0o660)
        let runtime = URL(fileURLWithPath: socket).deletingLastPathComponent().path
        exports = runtime + "/exports"
        redirectDirectory = runtime + "/redirect"
        self.state = state
        images = configuration.images ?? state + "/images"
        host = options.noHost ? false : configuration.host ?? true
        emulate = options.emulate.isEmpty ? configuration.emulate : options.emulate
        readers = options.readers ?? configuration.readers ?? 1
        realtime = configuration.realtime
        logLevel = options.logLevel ?? configuration.logLevel.flatMap(Logger.Level.init(rawValue:)) ?? .info
        let named = options.modules.isEmpty ? configuration.modules : options.modules
        modules = named.map(Self.absolute) + ModuleStore.defaultDirectories
        let helper = options.attachHelper ?? configuration.attachHelper
        attachHelpers =
            helper.map { [Self.absolute($0)] }
            ?? named.map { Self.absolute($0) + "/" + AttachHelper.name } + AttachHelper.defaultPlaces
        guests = configuration.guests
        claims = configuration.claims
        focus = configuration.focus
        health = configuration.health
        auto = configuration.auto
        usbip = configuration.usbip
        imports = configuration.imports
        access = configuration.access
    }

    /// Relative paths are the command line's only; the daemon stays where it was started.
    private static func absolute(_ path: String) -> String { URL(fileURLWithPath: path).standardizedFileURL.path }

    /// One that was named is there, and a program; which guests it suits is seen when they are loaded.
    private static func check(helper path: String, _ option: String) throws(DaemonFailure) {
        do {
            _ = try AttachHelper.look(at: path)
        } catch {
            throw DaemonFailure("\(option): \(error.message); build it by make -C kmod-shim attach, or leave that out")
        }
    }

    private static func check(_ emulations: [String]) throws(DaemonFailure) {
        var faults: [String] = []
        for specification in emulations {
            do {
                _ = try EmulationSpecification(parsing: specification)
            } catch {
                let remedy = error.remedy.map { "; \($0)" } ?? ""
                faults.append("--emulate \(quoted(specification)): \(withoutPrefix(error.message))\(remedy)")
            }
        }
        guard faults.isEmpty else { throw DaemonFailure(faults.joined(separator: "\n")) }
    }
}

extension DaemonSettings {
    /// What is wrong with a specification begins with "emulate KIND: ", which says nothing beside the specification.
    static func withoutPrefix(_ message: String) -> String {
        guard message.hasPrefix("emulate"), let end = message.range(of: ": ") else { return message }
        return String(message[end.upperBound...])
    }
}

/// Why vusbd can't start or go on: what to print, with the remedy.
package struct DaemonFailure: Error, Sendable, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
    init(_ error: USBError) { description = "\(error)" }
}
