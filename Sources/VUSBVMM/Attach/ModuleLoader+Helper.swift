// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// Brings the helper into a guest that has no client of its own.
extension ModuleLoader {
    /// A5. Nothing is copied where that of an earlier load is there yet.
    /// - Returns: its path in the guest.
    func copy(
        _ helper: AttachHelper, _ facts: AttachFacts, _ before: LoadedModules?, _ done: inout LoadedModules,
        step: @Sendable (String) -> Void
    ) async throws(USBError) -> String {
        if facts.hasCopy, before?.bootID == facts.kernel.bootID, let path = before?.helperPath {
            step("vusb-attach is there since before")
            done.helperDirectory = before?.helperDirectory
            return path
        }
        let machine = facts.kernel.machine
        let image = try await during("find vusb-attach") { () async throws(USBError) in
            try await BlockingWork.run { () throws(USBError) in try helper.image(for: machine) }
        }
        step("copying vusb-attach, \(image.count >> 10) KiB")
        let directory = try await makeDirectory()
        done.helperDirectory = directory
        let path = "\(directory)/\(AttachHelper.name)"
        try await during("copy vusb-attach") { () async throws(USBError) in
            try await kernel.writeFile(path, image) { _ in }
            let result = try await kernel.shell(GuestScript.makeProgram, [path], limit: Self.toolLimit)
            guard !result.succeeded else { return }
            throw USBError(
                .accessDenied, "it doesn't run there: \(PlainText.lastLines(result.errors))",
                remedy: "see whether the guest lets its agent run programs (SELinux, noexec); or install usbip there")
        }
        return path
    }

    private func makeDirectory() async throws(USBError) -> String {
        let name = "vusb-\(String(UInt64.random(in: .min ... .max), radix: 16))"
        let result = try await kernel.shell(GuestScript.makeDirectory, [name], limit: Self.toolLimit)
        let said = PlainText.lastLines(result.output, count: 1)
        // Nothing else of what it says becomes a path.
        guard result.succeeded, GuestScript.helperPlaces.contains(where: { said == "\($0)/\(name)" }) else {
            throw USBError(
                .accessDenied, "copy vusb-attach: no place in \(kernel.description) where programs can be put and run",
                remedy: "let /run or /tmp there be written to and not be noexec; or install usbip there")
        }
        return said
    }
}
