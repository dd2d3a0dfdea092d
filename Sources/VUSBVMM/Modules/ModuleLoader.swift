// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// How a guest sees its directory of /vusb.
package struct GuestShare: Sendable, Hashable, Codable {
    package enum Kind: String, Sendable, Codable, CaseIterable {
        /// The guest shares the host's kernel: the directory is used as it is.
        case host
        case virtiofs
        /// 9p over virtio.
        case ninep = "9p"
    }

    package var kind: Kind
    /// The mount tag; nil for `host`.
    package var tag: String?
    /// Where it is, or is to be mounted, in the guest.
    package var path: String

    package init(kind: Kind, tag: String? = nil, path: String = "/vusb") {
        self.kind = kind
        self.tag = tag
        self.path = path
    }
}

/// What was loaded into a guest, and so is to be unloaded: nothing else ever is.
package struct LoadedModules: Sendable, Hashable, Codable {
    /// The guest's boot: after another one nothing of this holds.
    package var bootID: String
    /// Those that were loaded here, in that order.
    package var modules: [String]
    /// Where /vusb was mounted here; nil where it was there already.
    package var mountedAt: String?

    package init(bootID: String, modules: [String], mountedAt: String? = nil) {
        self.bootID = bootID
        self.modules = modules
        self.mountedAt = mountedAt
    }
}

/// Who uses a guest's device inside the guest, such as `/dev/sda1 mounted on /mnt`.
package struct GuestUser: Sendable, Hashable {
    /// The port path of the device on the module's root hub in the guest, such as `3-1`.
    package var device: String
    package var text: String

    package init(device: String, text: String) {
        self.device = device
        self.text = text
    }
}

/// Loads the USB module into a guest's kernel and takes it out again, whatever way into the guest there is.
package struct ModuleLoader: Sendable {
    let kernel: any GuestKernel
    let store: ModuleStore

    package init(kernel: any GuestKernel, store: ModuleStore) {
        self.kernel = kernel
        self.store = store
    }

    /// Finds the build for the guest's kernel, mounts /vusb where it isn't, loads. On a failure what was done is undone.
    /// - Parameters:
    ///   - channelPath: the file `hcd` as the guest sees it.
    ///   - step: told what is being done, for people.
    /// - Throws: which step failed, what the guest said, and the remedy.
    package func load(
        _ share: GuestShare, channelPath: String, step: @Sendable (String) -> Void
    ) async throws(USBError) -> LoadedModules {
        throw USBError(.unsupported, "not written yet")
    }

    /// Whether what was loaded earlier is still there, in the same boot: after a restart of vusbd.
    package func isStillLoaded(_ loaded: LoadedModules) async throws(USBError) -> Bool { false }

    /// Who uses devices of the module's root hubs: mounted file systems, swap, open device nodes.
    package func users() async throws(USBError) -> [GuestUser] { [] }

    /// Takes out what `load` brought, and nothing else.
    /// - Throws: `busy` with who uses it.
    package func unload(_ loaded: LoadedModules, step: @Sendable (String) -> Void) async throws(USBError) {}
}
