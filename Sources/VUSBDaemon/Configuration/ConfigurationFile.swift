// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Glibc

/// Reads vusb.yaml.
enum ConfigurationFile {
    /// More isn't a configuration.
    static let byteLimit = 1 << 20

    /// - Parameter path: as given by `--config`; nil means the default one, which may be missing.
    static func read(_ path: String?) throws(ConfigurationError) -> Configuration {
        let name = path ?? Configuration.defaultPath
        if Directory.isThere(name) == true {
            throw unreadable(name, "it's a directory", remedy: "name a file: --config \(name)/vusb.yaml")
        }
        guard let data = FileManager.default.contents(atPath: name) else {
            let code = errno
            if path == nil, !FileManager.default.fileExists(atPath: name) { return Configuration() }
            throw unreadable(name, errnoText(code), remedy: "name a file that vusbd may read with --config")
        }
        guard data.count <= byteLimit else {
            throw unreadable(name, "\(data.count) bytes are too many", remedy: "it may have \(byteLimit)")
        }
        guard let text = String(data: data, encoding: .utf8) else {
            throw unreadable(name, "not UTF-8", remedy: "save it as UTF-8")
        }
        return try parse(text, path: name)
    }

    static func parse(_ text: String, path: String) throws(ConfigurationError) -> Configuration {
        var reader = ConfigurationReader()
        let configuration = reader.read(text)
        guard reader.faults.isEmpty else {
            let faults = reader.faults.sorted { ($0.line ?? 0, $0.key ?? "") < ($1.line ?? 0, $1.key ?? "") }
            throw ConfigurationError(path: path, faults: faults)
        }
        return configuration
    }

    private static func unreadable(_ path: String, _ why: String, remedy: String) -> ConfigurationError {
        ConfigurationError(path: path, faults: [ConfigurationFault(message: "can't be read: \(why)", remedy: remedy)])
    }
}
