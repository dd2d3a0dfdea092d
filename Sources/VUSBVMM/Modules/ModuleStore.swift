// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// A build of the modules for one kernel.
package struct ModuleBuild: Sendable, Hashable {
    /// As `uname -r` prints it in the guest.
    package var kernelRelease: String
    /// Whole, such as `6.1.0-56-amd64 SMP preempt mod_unload modversions`.
    package var vermagic: String
    /// The version that modinfo gives.
    package var version: String
    /// The directory that the files are in.
    package var directory: String

    package init(kernelRelease: String, vermagic: String, version: String, directory: String) {
        self.kernelRelease = kernelRelease
        self.vermagic = vermagic
        self.version = version
        self.directory = directory
    }
}

/// The builds of the modules that this host has: directories of builds, DKMS output, the host's own /lib/modules.
package struct ModuleStore: Sendable {
    /// In the order in which they are loaded.
    package static let modules = ["vusb_channel", "vusb_hcd"]

    package let directories: [String]

    package init(directories: [String]) { self.directories = directories }

    /// All builds, and what can't be used, with why: for `vusbctl modules`.
    package func builds() -> (builds: [ModuleBuild], faults: [USBError]) { ([], []) }
}
