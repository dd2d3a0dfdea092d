// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import Glibc
internal import VUSBDaemon

@main
struct Main {
    /// Exit codes: 0 stopped as asked, 1 failed, 2 wrong arguments.
    static func main() async {
        // A client that goes away in the middle of an answer is an error of that write, not the daemon's end.
        signal(SIGPIPE, SIG_IGN)
        let command: VUSBDCommand
        do {
            command = try VUSBDCommand.parse()
        } catch {
            Self.exit(with: error)
        }
        await Glibc.exit(command.run())
    }

    /// `--help` and `--version` come here as well.
    private static func exit(with error: any Error) -> Never {
        let isAnswer = VUSBDCommand.exitCode(for: error) == .success
        StandardStream.write(VUSBDCommand.fullMessage(for: error), to: isAnswer ? STDOUT_FILENO : STDERR_FILENO)
        Glibc.exit(isAnswer ? 0 : 2)
    }
}

enum StandardStream {
    static func write(_ text: String, to descriptor: Int32) {
        guard !text.isEmpty else { return }
        let line = text + "\n"
        // Where nobody listens there is nobody to tell.
        // SAFETY: the text lives through the call and ends with a zero byte.
        _ = unsafe line.withCString { unsafe Glibc.write(descriptor, $0, strlen($0)) }
    }
}
