// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// The bytes of a module's file on this host. Distributions ship them compressed; a guest's kernel gets them plain.
enum ModuleImage {
    /// What a file's name may end in, and the program that undoes it.
    private static let programs = [".ko": nil, ".ko.xz": "xz", ".ko.zst": "zstd", ".ko.gz": "gzip"]

    /// In the order in which they are looked for.
    static let endings = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"]

    /// With all its debugging information a module of ours has 2 MB.
    static let maximumSize = 32 << 20

    /// Blocks for as long as decompression takes: milliseconds.
    /// - Throws: `notFound`, `accessDenied`, `invalid`, `io`.
    static func read(_ path: String) throws(USBError) -> [UInt8] {
        guard let ending = endings.first(where: { path.hasSuffix($0) }), let program = programs[ending] else {
            throw USBError(
                .unsupported, "\(path) isn't a kernel module's file",
                remedy: "give it a name that ends in one of \(endings.joined(separator: ", "))"
            )
        }
        let bytes =
            if let program { try decompress(path, by: program) } else {
                try LocalFile.read(path, limit: maximumSize + 1)
            }
        guard bytes.count <= maximumSize else {
            throw USBError(.invalid, "\(path) is longer than \(maximumSize >> 20) MiB", remedy: "strip it: strip -g")
        }
        return bytes
    }

    private static func decompress(_ path: String, by name: String) throws(USBError) -> [UInt8] {
        let result = try run(name, path)
        // One that is longer was ended at the limit, by SIGPIPE.
        guard result.succeeded || result.output.count > maximumSize else {
            throw USBError(
                .invalid, "\(path) can't be decompressed: \(PlainText.lastLines(result.errors))",
                remedy: "build the modules again"
            )
        }
        return result.output
    }

    private static func run(_ name: String, _ path: String) throws(USBError) -> ProgramResult {
        for directory in ["/usr/bin", "/bin"] {
            do {
                return try LocalProgram.run(
                    "\(directory)/\(name)", ["-dc", "--", path], limit: .seconds(20), outputLimit: maximumSize + 1
                )
            } catch  where error.code == .notFound {
                continue
            }
        }
        throw USBError(
            .unsupported, "\(path) is compressed and there is no \(name) on this host",
            remedy: "install \(name), or decompress the module"
        )
    }
}
