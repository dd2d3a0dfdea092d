// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBEmulation

@Suite struct SpecificationTests {
    @Test func whatCanBeSaid() throws {
        #expect(try EmulationSpecification(parsing: "zero") == EmulationSpecification(.zero(.zeros), speed: .high))
        #expect(
            try EmulationSpecification(parsing: "zero,pattern=mod63,speed=super,name=z1,count=3,serial=S")
                == EmulationSpecification(.zero(.mod63), name: "z1", speed: .super, serial: "S", count: 3))
        #expect(try EmulationSpecification(parsing: "serial,speed=full").speed == .full)
        #expect(try EmulationSpecification(parsing: "keyboard,speed=low").speed == .low)
        #expect(
            try EmulationSpecification(parsing: "disk=/a b/c=d.img,readonly").kind
                == .disk(image: "/a b/c=d.img", readOnly: true))
        #expect(
            try EmulationSpecification(parsing: "disk=one,,two.img").kind
                == .disk(image: "one,two.img", readOnly: false))
    }

    @Test(arguments: [
        ("", "zero, serial, disk=IMAGE or keyboard"),
        ("mouse", "zero, serial, disk=IMAGE or keyboard"),
        ("zero=1", "only disk"),
        ("disk", "disk=IMAGE"),
        ("disk=", "disk=IMAGE"),
        ("zero,speed=warp", "low, full, high, super"),
        ("zero,speed", "low, full, high, super"),
        ("zero,speed=low", "high, full, super"),
        ("zero,pattern=ones", "zeros, mod63"),
        ("serial,pattern=zeros", "name, speed, serial, count"),
        ("zero,readonly", "pattern"),
        ("disk=a,readonly=yes", "readonly has no value"),
        ("zero,name=Zero", "a to z"),
        ("zero,name=-a", "a to z"),
        ("zero,name=", "name= and a name"),
        ("zero,name=../x", "a to z"),
        ("zero,count=0", "1 to 10000"),
        ("zero,count=99999", "1 to 10000"),
        ("zero,count=three", "a number"),
        ("zero,serial=\u{e4}", "ASCII"),
        ("zero,,x", "zero, serial, disk=IMAGE or keyboard"),
        ("disk=a,count=2", "readonly"),
    ]) func whatCanNotIsNamedWithWhatIsAllowed(_ text: String, _ remedy: String) {
        #expect { _ = try EmulationSpecification(parsing: text) } throws: { error in
            guard let error = error as? USBError else { return false }
            return error.code == .invalid && (error.remedy?.contains(remedy) ?? false)
        }
    }

    @Test func aNameOf64CharactersIsTooLong() {
        let name = String(repeating: "a", count: 64)
        #expect(throws: USBError.self) { _ = try EmulationSpecification(parsing: "zero,name=\(name)") }
        #expect(throws: Never.self) { _ = try EmulationSpecification(parsing: "zero,name=\(name.dropLast())") }
    }
}
