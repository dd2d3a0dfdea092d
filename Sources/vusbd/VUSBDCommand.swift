// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import Glibc
internal import Logging
internal import VUSBDaemon

struct VUSBDCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vusbd",
        abstract: "Lends USB devices to guests: virtual machines, microVMs and containers.",
        version: DaemonVersion.text
    )

    @Option(
        help: ArgumentHelp("The configuration; default /etc/vusb/vusb.yaml, which may be missing.", valueName: "file"))
    var config: String?

    @Option(help: ArgumentHelp("Where to mount the files of guests and devices; default /vusb.", valueName: "dir"))
    var mount: String?

    @Option(help: ArgumentHelp("The control socket; default /run/vusb/vusb.sock.", valueName: "path"))
    var socket: String?

    @Option(help: ArgumentHelp("Where guests and attachments are kept; default /var/lib/vusb.", valueName: "dir"))
    var state: String?

    @Option(help: ArgumentHelp("Plug in an emulated device: KIND[=ARG][,OPTION=VALUE]. Repeatable.", valueName: "spec"))
    var emulate: [String] = []

    @Flag(help: "Leave the host's own USB devices alone.")
    var noHost = false

    @Option(help: ArgumentHelp("Reader threads of the mount, 1 to 64; default 1.", valueName: "n"))
    var readers: Int?

    @Option(
        help: ArgumentHelp("trace, debug, info, notice, warning, error or critical; default info.", valueName: "level"))
    var logLevel: String?

    @Option(
        help: ArgumentHelp(
            "Look for builds of the USB module here, before the usual places. Repeatable.", valueName: "dir"),
        completion: .directory)
    var modules: [String] = []

    @Option(
        help: ArgumentHelp(
            "Copy this vusb-attach to guests that have no client of USB/IP; default beside the modules.",
            valueName: "file"),
        completion: .file())
    var attachHelper: String?

    func validate() throws {
        if let readers, !(1...64).contains(readers) {
            throw ValidationError("--readers \(readers): give a number from 1 to 64")
        }
        if let logLevel, Logger.Level(rawValue: logLevel) == nil {
            let levels = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("--log-level \(logLevel): give one of \(levels)")
        }
    }

    /// - Returns: the exit code.
    func run() async -> Int32 {
        do {
            let settings = try DaemonSettings(options)
            // SAFETY: nothing changes the environment in this program.
            let isJournal = unsafe getenv("JOURNAL_STREAM") != nil
            LoggingSystem.bootstrap { _ in StandardErrorLog(level: settings.logLevel, isJournal: isJournal) }
            try await Daemon(settings, logger: Logger(label: "vusbd")).run()
            return 0
        } catch {
            StandardStream.write("vusbd: \(error)", to: STDERR_FILENO)
            return 1
        }
    }

    private var options: DaemonOptions {
        var options = DaemonOptions()
        options.config = config
        options.mount = mount
        options.socket = socket
        options.state = state
        options.emulate = emulate
        options.noHost = noHost
        options.readers = readers
        options.logLevel = logLevel.flatMap(Logger.Level.init(rawValue:))
        options.modules = modules
        options.attachHelper = attachHelper
        return options
    }
}
