// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import Testing
import VUSBCore

@testable import VUSBVMM

@Suite struct LocalKernelTests {
    private let kernel = LocalKernel()

    @Test func aProgramsOutputErrorsAndStatusComeBack() async throws {
        let result = try await kernel.run("/bin/sh", ["-c", "echo out; echo err >&2; exit 3"], limit: .seconds(20))
        #expect(result == ProgramResult(end: .exited(3), output: Array("out\n".utf8), errors: Array("err\n".utf8)))
        #expect(!result.succeeded)
    }

    @Test func aProgramThatEndsByASignalIsToldAsSuch() async throws {
        let result = try await kernel.run("/bin/sh", ["-c", "kill -SEGV $$"], limit: .seconds(20))
        #expect(result.end == .signalled(Int(SIGSEGV)))
    }

    /// libdispatch's threads block all signals, and children would inherit that.
    @Test func aProgramCanBeEndedBySIGTERM() async throws {
        let result = try await kernel.run("/bin/sh", ["-c", "kill -TERM $$; echo alive"], limit: .seconds(20))
        #expect(result.end == .signalled(Int(SIGTERM)))
        #expect(result.output.isEmpty)
    }

    @Test func aProgramThatDoesNotExistIsNotFound() async {
        let error = await #expect(throws: USBError.self) {
            try await kernel.run("/nowhere/program", [], limit: .seconds(1))
        }
        #expect(error?.code == .notFound)
    }

    @Test func aProgramReadsNothingAndSeesNoOtherFiles() async throws {
        let result = try await kernel.run("/bin/sh", ["-c", "cat; ls /proc/self/fd | wc -l"], limit: .seconds(20))
        // Three, and the directory itself.
        #expect(String(decoding: result.output, as: UTF8.self).trimmingCharacters(in: .whitespaces) == "4\n")
    }

    @Test func aProgramPastItsDeadlineIsEndedWithItsChildren() async throws {
        let folder = try TemporaryFolder()
        let error = await #expect(throws: USBError.self) {
            try await kernel.run(
                "/bin/sh", ["-c", "sleep 1000 & echo $! >\(folder.path)/pid; echo said; wait"],
                limit: .milliseconds(500)
            )
        }
        #expect(error?.code == .timedOut)
        #expect(error?.message.hasSuffix("it said: said") == true)
        let text = try String(contentsOfFile: folder.path + "/pid", encoding: .utf8)
        let child = try #require(Int(text.trimmingCharacters(in: .whitespacesAndNewlines)))
        // Gone, or a zombie whose new parent hasn't looked yet.
        #expect([nil, "Z", "X"].contains(ProcessStatus(pid: child)?.state))
    }

    @Test func aProgramThatIgnoresSIGTERMIsKilled() async throws {
        let error = await #expect(throws: USBError.self) {
            try await kernel.run(
                "/bin/sh", ["-c", "trap '' TERM; while :; do sleep 1; done"], limit: .milliseconds(100)
            )
        }
        #expect(error?.code == .timedOut)
    }

    @Test func aCancelledTaskEndsItsProgram() async throws {
        let folder = try TemporaryFolder()
        let fifo = folder.path + "/fifo"
        let made = unsafe mkfifo(fifo, 0o600)
        #expect(made == 0)
        let kernel = kernel
        let task = Task { () async -> USBError.Code? in
            do throws(USBError) {
                _ = try await kernel.run("/bin/sh", ["-c", "echo up >\(fifo); sleep 1000"], limit: .seconds(60))
                return nil
            } catch {
                return error.code
            }
        }
        // Returns when the program has opened its end and closed it.
        let said = try #require(FileHandle(forReadingAtPath: fifo)).readToEnd()
        #expect(said == Data("up\n".utf8))
        task.cancel()
        #expect(await task.value == .cancelled)
    }

    @Test func aProgramThatPrintsTooMuchIsEndedAtTheBound() async throws {
        let result = try await BlockingWork.run { () throws(USBError) in
            try LocalProgram.run("/usr/bin/yes", [], limit: .seconds(20), outputLimit: 1000)
        }
        #expect(result.end == .signalled(Int(SIGPIPE)))
        #expect(result.output.count == 1000)
    }

    /// More than a pipe holds, on both.
    @Test func muchOutputAndManyErrorsComeWhole() async throws {
        let script = "head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero"
        let result = try await kernel.run("/bin/sh", ["-c", script], limit: .seconds(20))
        #expect(result.output.count == 300_000 && result.errors.count == 300_000)
    }

    // MARK: - Files

    @Test func aFileIsReadUpToItsBound() async throws {
        let folder = try TemporaryFolder()
        try folder.write("a", [UInt8](repeating: 7, count: 200_000))
        #expect(try await kernel.readFile(folder.path + "/a", limit: 1 << 20).count == 200_000)
        #expect(try await kernel.readFile(folder.path + "/a", limit: 100_001).count == 100_001)
        #expect(try await kernel.readFile(folder.path + "/a", limit: 0).isEmpty)
        #expect(try await kernel.readFile("/proc/version", limit: 1000).isEmpty == false)
    }

    @Test func aFIFOThatNobodyWritesToDoesNotHold() async throws {
        let folder = try TemporaryFolder()
        let made = unsafe mkfifo(folder.path + "/fifo", 0o600)
        #expect(made == 0)
        #expect(try await kernel.readFile(folder.path + "/fifo", limit: 10).isEmpty)
    }

    @Test func aMissingFileIsNotFoundAndADirectoryAnError() async {
        let missing = await #expect(throws: USBError.self) { try await kernel.readFile("/nowhere", limit: 10) }
        #expect(missing?.code == .notFound)
        let directory = await #expect(throws: USBError.self) { try await kernel.readFile("/", limit: 10) }
        #expect(directory?.code == .io)
    }

    // MARK: - Modules

    /// Whatever the kernel here says to bytes that are no module, it is an error and names the module.
    @Test func bytesThatAreNoModuleAreRefusedByName() async {
        let error = await #expect(throws: USBError.self) {
            try await kernel.insmod("vusb_nothing", image: [1, 2, 3], parameters: "") { _ in }
        }
        #expect(error?.message.contains("vusb_nothing") == true)
    }

    @Test func aModuleThatIsNotLoadedCannotBeUnloaded() async {
        let error = await #expect(throws: USBError.self) { try await kernel.rmmod("vusb_nothing") }
        #expect([.notFound, .accessDenied, .unsupported].contains(error?.code))
    }

    /// init_module(2) and `kernel/module/main.c`.
    @Test(arguments: [
        (ENOEXEC, USBError.Code.invalid, "vermagic", "make -C kmod-shim"),
        (EKEYREJECTED, .accessDenied, "signature", "enrolled"), (ENOKEY, .accessDenied, "signature", "enrolled"),
        (EPERM, .accessDenied, "lockdown", "CAP_SYS_MODULE"), (EEXIST, .busy, "loaded already", "rmmod vusb_hcd"),
        (ENOENT, .notFound, "symbols", "depends"), (EINVAL, .invalid, "symbol versions", "headers"),
        (EBUSY, .busy, "somebody else", "again"), (ENOSYS, .unsupported, "without modules", "CONFIG_MODULES"),
        (ENODEV, .io, "No such device", "dmesg"),
    ])
    func eachErrorOfLoadingHasAMeaningAndARemedy(
        code: Int32, kind: USBError.Code, meaning: String, remedy: String
    ) {
        let error = ModuleCallError(module: "vusb_hcd", code: code, log: ["vusb_hcd: it"]).loading
        #expect(error.code == kind)
        #expect(error.message.hasPrefix("vusb_hcd can't be loaded: "))
        #expect(error.message.contains(meaning))
        #expect(error.message.hasSuffix("; the kernel says: vusb_hcd: it"))
        #expect(error.remedy?.contains(remedy) == true)
    }

    @Test(arguments: [
        (EWOULDBLOCK, USBError.Code.busy), (EBUSY, .busy), (ENOENT, .notFound), (EPERM, .accessDenied),
        (ENOSYS, .unsupported), (EIO, .io),
    ])
    func eachErrorOfUnloadingHasACode(code: Int32, kind: USBError.Code) {
        #expect(ModuleCallError(module: "vusb_hcd", code: code, log: []).unloading.code == kind)
    }

    @Test func aLineOfTheKernelsLogIsItsTextWithoutTheRest() {
        let record = Array("3,1234,5678,-;vusb_hcd: bad\u{1b} version\n SUBSYSTEM=x\n".utf8)
        #expect(KernelLog.text(of: record[...]) == "vusb_hcd: bad? version")
        #expect(KernelLog.text(of: Array("no record".utf8)[...]) == nil)
    }
}
