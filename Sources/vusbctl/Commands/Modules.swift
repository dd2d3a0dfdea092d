// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Modules: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lists the builds of the USB module that guests can be given.",
        discussion: """
            A guest that's loaded in mode module gets the build whose vermagic is that of its kernel. What can't be used \
            is listed below, with why.
            """)

    @OptionGroup var common: CommonOptions

    func run() async throws {
        try await common.run { client in
            let modules = try await client.modules()
            if common.json { try Output.json(modules) } else { try Output.print(Self.text(modules)) }
        }
    }

    private static func text(_ modules: [ModuleInfo]) -> String {
        var table = Table("KERNEL", "VERSION", "VERMAGIC", "DIRECTORY")
        for module in modules where module.fault == nil {
            table.add(module.kernelRelease, module.version, module.vermagic, module.directory)
        }
        let faults = modules.compactMap { module in module.fault.map { Output.harmless(subject(module) + $0) } }
        return ([table.text] + (faults.isEmpty ? [] : [""]) + faults).joined(separator: "\n")
    }

    private static func subject(_ module: ModuleInfo) -> String {
        let name = [module.directory, module.kernelRelease].first { !$0.isEmpty }
        return name.map { $0 + ": " } ?? ""
    }
}
