// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBVMM

/// What brings modules into a guest's kernel, and attaches devices there: `ModuleLoader`, or a test's.
protocol ModuleLoading: Sendable {
    func load(
        _ share: GuestShare, channelPath: String, step: @Sendable (String) -> Void
    ) async throws(USBError) -> LoadedModules
    func isStillLoaded(_ loaded: LoadedModules) async throws(USBError) -> Bool
    func users() async throws(USBError) -> [GuestUser]
    func unload(_ loaded: LoadedModules, step: @Sendable (String) -> Void) async throws(USBError) -> UnloadEnd
    func loadClient(
        _ addresses: [AttachAddress], helper: AttachHelper, before: LoadedModules?, step: @Sendable (String) -> Void
    ) async throws(USBError) -> AttachLoad
    func attach(_ busID: String, by way: AttachWay, limit: Duration) async throws(USBError) -> AttachStream
}

extension ModuleLoader: ModuleLoading {}

/// How long things in a guest may take.
struct GuestTimes: Sendable {
    /// From the module's load to its hello.
    var hello = Duration.seconds(30)
    /// For the whole of a load by the agent: copying a module takes a while.
    var load = Duration.seconds(300)
    /// For unloading it, and for a load that wasn't done in time to undo its half.
    var unload = Duration.seconds(90)
    /// For one question to the guest's agent.
    var question = Duration.seconds(15)
    /// For the guest to find out who uses its devices: it looks at all its processes.
    var users = Duration.seconds(35)
    /// The same where the answer changes nothing, as the devices are taken in any case.
    var impatience = Duration.seconds(5)
    /// For the guest's drivers to let go of a device.
    var drivers = Duration.seconds(5)
    /// For the guest to notice that a device is gone.
    var removal = Duration.seconds(2)
    /// For a client in a guest to attach a device. The loader ends it, who knows more; a question's time later nobody waits
    /// for it any more.
    var client = Duration.seconds(60)
    /// For a machine that boots until its agent answers.
    var boot = Duration.seconds(600)
    /// For a monitor to say whether its machine runs.
    var monitor = Duration.seconds(2)
    /// For a machine to plug a device in; longer than its connector takes, which knows more.
    var plug = Duration.seconds(30)
    /// For a machine to say hello to it.
    var greeting = Duration.seconds(10)
    /// Without a transfer for so long, a device isn't being worked with.
    var rest = Duration.milliseconds(250)
    /// After its last write a disk that wasn't flushed isn't being written to any more.
    var flush = Duration.seconds(3)
    /// For a machine to let go of a device.
    var unplug = Duration.seconds(5)
    /// The same where it's taken away in any case.
    var cutOff = Duration.seconds(1)
    /// How long a guest that is loaded on demand stays loaded without a device: a replug doesn't cost a load.
    var idle = Duration.seconds(5)
}

/// What guests whose kernel is got into need besides: a test has its own.
struct ModuleTools: Sendable {
    var store: ModuleStore
    var helper = AttachHelper(places: AttachHelper.defaultPlaces)
    var times = GuestTimes()
    var loader: @Sendable (any GuestKernel, ModuleStore) -> any ModuleLoading = {
        ModuleLoader(kernel: $0, store: $1)
    }
}

/// A way into a guest's kernel, with what can be done there.
struct GuestWay: Sendable {
    let kernel: any GuestKernel
    let loader: any ModuleLoading
}
