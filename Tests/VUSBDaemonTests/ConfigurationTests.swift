// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import VUSBControl
import VUSBCore
import VUSBVMM

@testable import VUSBDaemon

@Suite struct ConfigurationTests {
    private func faults(_ text: String) -> [String] {
        do {
            _ = try ConfigurationFile.parse(text, path: "vusb.yaml")
            return []
        } catch {
            return error.faults.map(\.description)
        }
    }

    @Test func claimsAreReadInTheirOrder() throws {
        let configuration = try ConfigurationFile.parse(
            """
            claims:
              - name: dongle
                match: [product=0529:0001, serial=4711]
                guests: [vm1, web1]
                fail-back: idle
              - name: desk
                match: ["port=1-2.*"]
                except: [class=08]
                guests: [vm1]
                force: true
            """, path: "vusb.yaml")
        #expect(
            configuration.claims == [
                ClaimSpec(
                    name: "dongle", match: ["product=0529:0001", "serial=4711"], except: [], guests: ["vm1", "web1"],
                    failBack: .idle),
                ClaimSpec(
                    name: "desk", match: ["port=1-2.*"], except: ["class=08"], guests: ["vm1"], force: true),
            ])
    }

    @Test func focusSetsAreRead() throws {
        let configuration = try ConfigurationFile.parse(
            """
            focus:
              - name: desk
                devices: [emu-keyboard, "046d:c52b"]
                guests: [win, linux]
              - name: wall
                devices: [1-2]
                guests: [linux]
                hot-key: "pause,pause,pause,digit"
                follow: true
              - name: rack
                devices: [1-3]
                guests: [linux]
                hot-key: none
            """, path: "vusb.yaml")
        let sets = configuration.focus
        #expect(sets.map(\.name) == ["desk", "wall", "rack"])
        #expect(sets.map { $0.chord?.text } == ["scrolllock,scrolllock,digit", "pause,pause,pause,digit", nil])
        #expect(sets.map(\.follows) == [false, true, false])
        #expect([1, 2, 3, 0].map { sets[0].guest(digit: $0) } == ["win", "linux", nil, nil])
    }

    @Test func wrongFocusSetsAreToldWithTheirLinesEachOnce() throws {
        #expect {
            _ = try ConfigurationFile.parse(
                """
                focus:
                  - name: desk
                    devices: ["046d:"]
                    guests: [win, win]
                  - name: desk
                    devices: []
                    guests: [win]
                    hot-key: "a,a,digit"
                """, path: "vusb.yaml")
        } throws: { error in
            let faults = (error as? ConfigurationError)?.faults ?? []
            return Set(faults.map(\.line)) == [3, 4, 5, 8] && faults.count == 5
        }
    }

    @Test func accessAndHealthAreRead() throws {
        let configuration = try ConfigurationFile.parse(
            """
            access:
              - user: root
                role: viewer
              - group: "1234"
                role: guest
                guests: [vm1, web1]
            health:
              stalls: 5 in 500ms
              babble: off
              cancel: off
              calm: 2m
            auto: {window: 10m, dear: 5s, cheap: 500ms}
            """, path: "vusb.yaml")
        #expect(
            configuration.access == [
                AccessRule(name: "access[0]", users: [0], role: .viewer),
                AccessRule(name: "access[1]", groups: [1234], role: .guest, guests: ["vm1", "web1"]),
            ])
        var limits = HealthLimits()
        limits.stalls = EventLimit(5, in: .milliseconds(500))
        limits.babble = .off
        limits.cancelTime = nil
        limits.calm = .seconds(120)
        #expect(configuration.health == limits)
        #expect(
            configuration.auto == ModeMeter.Rule(window: .seconds(600), dear: .seconds(5), cheap: .milliseconds(500)))
    }

    @Test func wrongAccessAndHealthAreToldWithTheirLines() throws {
        #expect {
            _ = try ConfigurationFile.parse(
                """
                access:
                  - user: nobody-here-has-this-name
                    role: viewer
                  - role: operator
                  - user: root
                    role: guest
                  - user: root
                    role: viewer
                    guests: [vm1]
                  - user: root
                    role: king
                health:
                  stalls: many
                  calm: soon
                auto:
                  dear: 1s
                  cheap: 2s
                """, path: "vusb.yaml")
        } throws: { error in
            let faults = (error as? ConfigurationError)?.faults ?? []
            return Set(faults.map(\.line)) == [2, 4, 5, 9, 11, 13, 14, 17] && faults.allSatisfy { $0.remedy != nil }
        }
    }

    @Test func wrongClaimsAreToldWithTheirLinesEachOnce() throws {
        #expect {
            _ = try ConfigurationFile.parse(
                """
                claims:
                  - name: a
                    match: [class=8]
                    guests: [vm1]
                  - name: b
                    match: []
                    guests: [vm1]
                  - name: c
                    match: [product=0951]
                    guests: [vm1]
                  - name: d
                    match: [product=0951:1666]
                    guests: [vm2]
                  - name: e
                    match: [class=08]
                    guests: [vm1]
                    fail-back: later
                """, path: "vusb.yaml")
        } throws: { error in
            let faults = (error as? ConfigurationError)?.faults ?? []
            return faults.map(\.line) == [2, 5, 11, 17] && faults.allSatisfy { $0.remedy != nil || $0.line == 5 }
                && faults[2].message.contains("claim c, before it")
        }
    }

    @Test func allKeysAreRead() throws {
        let configuration = try ConfigurationFile.parse(
            """
            mount: /srv/vusb
            socket: /run/vusb/other.sock
            socket-group: usb
            socket-mode: 0600
            state: /var/lib/other
            images: /srv/images
            host: false
            emulate:
              - zero
              - disk=/tmp/a.img
            readers: 2
            log-level: debug
            modules: [/srv/modules, /opt/vusb]
            guests:
              web1:
                connector: local
                mode: auto
                owner: root
                group: 0
                file-mode: 0660
                devices: [1-2, 0525:a4a0, "0525:a4a0:S:1"]
                load: true
                priority: 80
              web2:
              vm1:
                connector: qemu
                mode: module
                qmp: /run/vm1/qmp
                agent: /run/vm1/agent
                share: virtiofs:vusb
                policy: on-demand
            """, path: "vusb.yaml")
        #expect(configuration.mount == "/srv/vusb")
        #expect(configuration.socketMode == 0o600)
        #expect(configuration.host == false)
        #expect(configuration.emulate == ["zero", "disk=/tmp/a.img"])
        #expect(configuration.readers == 2)
        #expect(configuration.guests.map(\.specification.name) == ["web1", "web2", "vm1"])
        #expect(configuration.guests.first?.specification.fileMode == "0660")
        #expect(configuration.guests.first?.specification.devices == ["1-2", "0525:a4a0", "0525:a4a0:S:1"])
        #expect(configuration.guests.map(\.load) == [true, false, false])
        #expect(configuration.modules == ["/srv/modules", "/opt/vusb"])
        #expect(
            configuration.guests.last?.specification
                == GuestSpec(
                    name: "vm1", connector: "qemu", mode: "module", qmp: "/run/vm1/qmp", agent: "/run/vm1/agent",
                    share: "virtiofs:vusb", policy: "on-demand"))
    }

    @Test(arguments: ["", "---\n", "# nothing\n", "guests:\n"]) func nothingSaidIsNothingWrong(text: String) throws {
        #expect(try ConfigurationFile.parse(text, path: "vusb.yaml") == Configuration())
    }

    @Test func aWrongKeyIsNamedWithItsLineAndTheNearestOne() {
        #expect(faults("mount: /vusb\nsockett: /run/x\n") == ["line 2: sockett: unknown key; did you mean socket?"])
        #expect(
            faults("guests:\n  web1:\n    filemode: 0600\n") == [
                "line 3: guests.web1.filemode: unknown key; did you mean file-mode?"
            ])
        #expect(faults("colour: red\n").first?.contains("known keys are mount, socket") == true)
    }

    @Test func allErrorsAreListedInTheOrderOfTheirLines() {
        let found = faults(
            """
            mount: vusb
            host: maybe
            readers: 65
            emulate: zero
            log-level: loud
            socket-mode: 0999
            guests:
              Web:
                mode: files
              web2:
                connector: xen
                mode: teleport
                owner: no-such-user
                group: no-such-group
                file-mode: "888"
                devices: [1-2, a/b]
                load: [1]
            """)
        let lines = found.compactMap { $0.split(separator: " ").dropFirst().first }.compactMap { Int($0.dropLast()) }
        #expect(lines == [1, 2, 3, 4, 5, 6, 8, 11, 12, 13, 14, 15, 16, 17])
        #expect(found[2] == "line 3: readers: must be a number from 1 to 64, not '65'")
        #expect(found[6].contains("[a-z0-9][a-z0-9-]{0,62}"))
    }

    @Test func fieldsOfAMachineAreCheckedEachAndTogetherWithTheirLines() {
        let found = faults(
            """
            modules: [modules, /srv]
            guests:
              vm1:
                connector: qemu
                mode: module
                agent: run/agent
                policy: always
              vm2:
                share: nfs:x
            """)
        let places = found.map { $0.split(separator: ":").prefix(2).joined(separator: ":") }
        #expect(
            places == [
                "line 1: modules[0]", "line 4: guests.vm1.qmp", "line 6: guests.vm1.agent", "line 7: guests.vm1.policy",
                "line 9: guests.vm2.share", "line 9: guests.vm2.share",
            ])
        #expect(found.dropFirst().first?.contains("-qmp unix:PATH,server=on,wait=off") == true, "\(found)")
    }

    @Test func modulesAreLookedForWhereTheCommandLineSaysElseTheConfigurationAndThenInTheUsualPlaces() {
        var options = DaemonOptions()
        var configuration = Configuration()
        configuration.modules = ["/srv/modules"]
        #expect(DaemonSettings(options, configuration).modules == ["/srv/modules"] + ModuleStore.defaultDirectories)
        options.modules = ["/opt/a", "/opt/../b"]
        #expect(DaemonSettings(options, configuration).modules == ["/opt/a", "/b"] + ModuleStore.defaultDirectories)
    }

    @Test(arguments: ["a: [1", "\ta: 1", "a: b: c", "mount: \"/x", "- a\n- b", "just text"])
    func whatIsNoConfigurationIsRefused(text: String) { #expect(faults(text).count == 1) }

    @Test func aKeyGivenTwiceIsRefused() {
        let found = faults("mount: /a\nhost: true\nmount: /b\n")
        #expect(found.count == 1)
        #expect(found.first == "line 3: mount: given more than once in one mapping; keep one")
        let inner = faults("guests:\n  a:\n    mode: files\n  b:\n    mode: files\n    load: true\n    mode: auto\n")
        #expect(inner == ["line 7: mode: given more than once in one mapping; keep one"])
    }

    @Test func aMissingFileIsAnErrorOnlyWhereItWasAskedFor() throws {
        let directory = try TemporaryDirectory()
        let error = #expect(throws: ConfigurationError.self) {
            try ConfigurationFile.read(directory.path + "/none.yaml")
        }
        #expect(error?.description.contains("none.yaml: can't be read") == true)
        let latin = directory.path + "/latin.yaml"
        try Data([0x61, 0xe4]).write(to: URL(fileURLWithPath: latin))
        let encoding = #expect(throws: ConfigurationError.self) { try ConfigurationFile.read(latin) }
        #expect(encoding?.description.contains("not UTF-8") == true)
    }

    @Test func theCommandLineOverrides() {
        var options = DaemonOptions()
        options.mount = "/elsewhere"
        options.noHost = true
        options.emulate = ["serial"]
        var configuration = Configuration()
        configuration.mount = "/srv"
        configuration.state = "/srv/state"
        configuration.emulate = ["zero"]
        let settings = DaemonSettings(options, configuration)
        #expect(settings.mount == "/elsewhere")
        #expect(settings.state == "/srv/state")
        #expect(settings.images == "/srv/state/images")
        #expect(settings.emulate == ["serial"])
        #expect(settings.host == false)
        #expect(settings.socket == "/run/vusb/vusb.sock")
    }

    @Test func wrongEmulationsAreToldWithTheirLinesAmongAllElse() {
        let found = faults("emulate:\n  - zero,id=x\n  - serial\n  - [a]\n  - toaster\nhost: maybe\n")
        #expect(found.count == 4, "\(found)")
        #expect(found.first?.hasPrefix("line 2: emulate[0]: 'zero,id=x': there is no option \"id\"; ") == true)
        #expect(found.dropFirst(2).first?.hasPrefix("line 5: emulate[3]: 'toaster': there is no kind") == true)
    }

    @Test func aDirectoryIsNoConfigurationAndAFileNoDirectory() throws {
        let directory = try TemporaryDirectory()
        let configuration = #expect(throws: ConfigurationError.self) { try ConfigurationFile.read(directory.path) }
        #expect(configuration?.description.contains("can't be read: it's a directory; name a file") == true)
        let file = directory.path + "/file"
        try Data().write(to: URL(fileURLWithPath: file))
        for path in [file, file + "/state"] {
            let state = #expect(throws: USBError.self) { try Directory.create(path, mode: 0o700) }
            #expect(state?.message.hasSuffix("/file isn't a directory") == true)
        }
    }

    @Test func aListInPlaceOfKeysIsToldWithWhatToWrite() {
        let found = faults("- 1\n")
        #expect(found == ["line 1: must have keys with values, not a list; begin it with a key such as mount:"])
    }

    @Test func aWrongEmulationIsToldBeforeAnythingStarts() {
        var options = DaemonOptions()
        options.emulate = ["zero", "toaster", "disk"]
        let failure = #expect(throws: DaemonFailure.self) { try DaemonSettings(options) }
        #expect(failure?.description.split(separator: "\n").count == 2)
        #expect(failure?.description.contains("'toaster'") == true)
    }
}
