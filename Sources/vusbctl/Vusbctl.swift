// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import VUSBControl

/// The program: reads its arguments, runs one command, and ends with one of the documented codes.
@main
struct Vusbctl: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vusbctl",
        abstract: "Lends the host's USB devices to guests.",
        discussion: """
            DEVICE is a device id, VID:PID or VID:PID:SERIAL.

            Exit codes: 0 done, 1 failed, 2 wrong usage, 3 access denied, 4 timed out or busy, 130 cancelled by ^C, 141 nobody \
            reads what it prints.
            """,
        version: Version.current,
        subcommands: [
            Status.self, Devices.self, Guests.self, Guest.self, Load.self, Unload.self, Attach.self, Detach.self,
            Switch.self, RequestDevice.self, Hold.self, Focus.self, Trust.self, Claim.self, Modules.self, Watch.self,
            TypeText.self,
            Import.self, Imports.self, Forget.self, Emulate.self, Unplug.self, Operations.self, Cancel.self, Run.self,
            Doctor.self,
        ]
    )

    static func main() async {
        do {
            var command = try parseAsRoot(arguments)
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch {
            Glibc.exit(report(error).rawValue)
        }
    }

    private static var arguments: [String] { Arguments.reordered(Array(CommandLine.arguments.dropFirst())) }

    /// Says what went wrong, and which code says it to programs.
    private static func report(_ error: any Error) -> Exit {
        if let failure = error as? Failure {
            failure.print()
            return failure.exit
        }
        let code = exitCode(for: error)
        guard code != .success else {
            return answer(fullMessage(for: error))
        }
        if let error = error as? any ExpectedError {
            let failure = Failure(error)
            failure.print()
            return failure.exit
        }
        Output.complain(fullMessage(for: error))
        guard code == .validationFailure else { return .failed }
        if let text = Suggestion.text(for: arguments, of: Self.self) { Output.complain(text) }
        return .usage
    }

    /// Prints help, the version, a completion script: what was asked for.
    private static func answer(_ text: String) -> Exit {
        do {
            try Output.print(text)
            return .done
        } catch {
            return report(error)
        }
    }
}
