// SPDX-License-Identifier: Apache-2.0

/// Whether somebody at this host's console types on a device: the kernel's `kbd` handler, which feeds the virtual
/// terminals, has its input. Who lends it locks that person out.
struct ConsoleKeyboard {
    let paths: HostPaths

    /// The input's name, such as `input3`; nil where there is none, or no virtual terminal.
    func input(below interfaceDirectory: String) -> String? {
        guard HostFiles.exists(paths.virtualTerminal) else { return nil }
        let inputs = inputs(below: interfaceDirectory)
        guard !inputs.isEmpty, let text = HostFiles.text(paths.proc + "/bus/input/devices", limit: 1 << 20) else {
            return nil
        }
        return inputs.first { Self.isConsole($0, in: text) }
    }

    /// `0003:046D:C31C.0001/input/input3`, the way that HID drivers lay them; usbkbd leaves the first part out.
    private func inputs(below directory: String) -> [String] {
        let devices = (HostFiles.list(directory) ?? []).filter { $0.contains(":") }.map { directory + "/" + $0 }
        return ([directory] + devices).flatMap { HostFiles.list($0 + "/input") ?? [] }.filter { $0.hasPrefix("input") }
    }

    /// Blocks between empty lines; `S:` is where sysfs has it, `H:` who listens.
    private static func isConsole(_ input: String, in text: String) -> Bool {
        var isIt = false
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.isEmpty { isIt = false }
            if line.hasPrefix("S: Sysfs="), line.hasSuffix("/" + input) { isIt = true }
            if isIt, line.hasPrefix("H: Handlers=") {
                let handlers = line.dropFirst("H: Handlers=".count).split(separator: " ")
                // A camera's button and a headset's volume are `kbd`'s, too; what has a keyboard's keys is sysrq's as well.
                return handlers.contains("kbd") && handlers.contains("sysrq")
            }
        }
        return false
    }
}
