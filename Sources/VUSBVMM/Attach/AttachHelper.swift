// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// The helper `vusb-attach` on this host, which guests get that have no client of their own.
package struct AttachHelper: Sendable {
    package static let name = "vusb-attach"
    /// Where packages and `make install` put it.
    package static let defaultPlaces = ["/usr/lib/vusb/vusb-attach", "/usr/local/lib/vusb/vusb-attach"]

    /// Files, in the order in which they are looked for.
    package let places: [String]

    package init(places: [String]) { self.places = places }

    /// With all of glibc in it, it has 700 KiB.
    static let maximumSize = 8 << 20
    static let remedy =
        "make -C kmod-shim attach, and give vusbd its place (--attach-helper); or install usbip in the guest"

    /// The first that is there. Blocks while it's read.
    /// - Parameter machine: the guest's processor, as `uname -m` says it.
    /// - Throws: `notFound`, `invalid` where it's for another processor.
    func image(for machine: String) throws(USBError) -> [UInt8] {
        for place in places {
            do throws(USBError) {
                return try Self.read(place, machine)
            } catch  where error.code == .notFound {
                continue
            }
        }
        throw USBError(
            .notFound, "there is no \(Self.name) on this host: \(places.joined(separator: ", "))", remedy: Self.remedy)
    }

    /// What the first that is there is, of whatever processor. Blocks while it's read.
    /// - Throws: `notFound`, `invalid` where it's no program.
    package func look() throws(USBError) -> Look {
        for place in places {
            do throws(USBError) {
                return try Self.look(at: place)
            } catch  where error.code == .notFound {
                continue
            }
        }
        throw USBError(.notFound, "there is none at \(places.joined(separator: ", "))", remedy: Self.remedy)
    }

    private static func read(_ path: String, _ machine: String) throws(USBError) -> [UInt8] {
        let bytes = try LocalFile.read(path, limit: maximumSize + 1)
        guard bytes.count <= maximumSize, let processor = processor(bytes) else {
            throw USBError(.invalid, "\(path) is no program of Linux", remedy: remedy)
        }
        guard processor == GuestFacts.machines[machine] else {
            throw USBError(
                .invalid, "\(path) is for another processor than the guest's \(machine)",
                remedy: "install usbip in the guest, or a vusb-attach that was built for it: "
                    + "make -C kmod-shim attach ATTACH_CC=..."
            )
        }
        return bytes
    }

    /// `e_machine` of a 64-bit little-endian ELF file that can be run.
    private static func processor(_ bytes: [UInt8]) -> UInt16? {
        // 7f E L F, 64 bits, little-endian, version 1; ET_EXEC or ET_DYN.
        guard bytes.count >= 64, bytes.starts(with: [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]), bytes[17] == 0,
            [2, 3].contains(bytes[16])
        else { return nil }
        return UInt16(bytes[18]) | UInt16(bytes[19]) << 8
    }
}
