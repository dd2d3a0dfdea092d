// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Doctor: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Says what the host lacks, with the remedies.",
        discussion: "If no daemon answers, it looks at the host by itself. Ends with 1 if it finds an error.")

    @OptionGroup var common: CommonOptions

    func run() async throws {
        let findings = try await findings()
        if common.json { try Output.json(findings) } else { try findings.forEach { try Output.print(Self.text($0)) } }
        if findings.contains(where: { $0.level == .error }) { throw Failure(.failed) }
    }

    private func findings() async throws -> [Finding] {
        do {
            return try await ControlClient.with(socketPath: common.socketPath) { try await $0.doctor() }
        } catch let error as ClientError {
            let daemon = Finding(check: "daemon", level: .error, summary: error.description)
            return [daemon] + HostChecks().findings()
        } catch let problem as Problem {
            let daemon = Finding(
                check: "daemon", level: .error, summary: problem.detail, remedy: problem.remedy)
            return [daemon] + HostChecks().findings()
        }
    }

    private static func text(_ finding: Finding) -> String {
        let level = finding.level == .ok ? "ok     " : finding.level == .warning ? "warning" : "error  "
        let summary = "\(level)  \(Output.harmless(finding.check)): \(Output.harmless(finding.summary))"
        return summary + (finding.remedy.map { "\n         " + Output.harmless($0) } ?? "")
    }
}
