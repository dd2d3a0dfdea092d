// SPDX-License-Identifier: Apache-2.0

import Foundation
import HTTPTypes
import NIOCore
import Testing

@testable import VUSBControl

/// The document and the code say the same.
@Suite struct OpenAPITests {
    private static func document() throws -> [String: Any] {
        let data = Data(try OpenAPIDocument().json.readableBytesView)
        return try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    }

    private static func object(_ value: Any?, _ keys: String...) throws -> [String: Any] {
        var value = value
        for key in keys { value = (value as? [String: Any])?[key] }
        return try #require(value as? [String: Any], "\(keys)")
    }

    private static func resolved(_ value: Any, in document: [String: Any]) throws -> [String: Any] {
        let object = try object(value)
        guard let reference = object["$ref"] as? String else { return object }
        var found: Any? = document
        for key in reference.split(separator: "/").dropFirst() { found = (found as? [String: Any])?[String(key)] }
        return try #require(found as? [String: Any], "\(reference)")
    }

    private static let methods = ["get", "put", "post", "delete", "options", "head", "patch", "trace"]

    @Test func servedDocumentIsTheConvertedOne() async throws {
        try await ServerFixture.with { fixture in
            let reply = try await fixture.exchange("GET /openapi.json")
            #expect(reply.status == 200)
            #expect(reply.fields["content-type"] == "application/json")
            let served = try JSONSerialization.jsonObject(with: Data(reply.body.utf8)) as? NSDictionary
            let converted = try Self.document() as NSDictionary
            #expect(served == converted)
            #expect(served?["openapi"] as? String == "3.1.0")
        }
    }

    @Test func documentHasTheRoutesAndNoOthers() throws {
        let document = try Self.document()
        var written: Set<String> = []
        for (path, item) in try Self.object(document, "paths") {
            for method in try Self.object(item).keys where Self.methods.contains(method) {
                written.insert("\(method.uppercased()) \(path)")
            }
        }
        let served = Set(RouteTable.routes.map { "\($0.method.rawValue) \($0.template)" })
        #expect(written == served)
        #expect(served.count == RouteTable.routes.count)
    }

    @Test func documentHasTheParametersAndBodiesOfEachRoute() throws {
        let document = try Self.document()
        for route in RouteTable.routes {
            let item = try Self.object(document, "paths", route.template)
            let operation = try Self.object(item, route.method.rawValue.lowercased())
            let lists = [item["parameters"], operation["parameters"]].compactMap { $0 as? [Any] }
            let parameters = try lists.flatMap { $0 }.map { try Self.resolved($0, in: document) }
            let query = parameters.filter { $0["in"] as? String == "query" }.compactMap { $0["name"] as? String }
            #expect(Set(query) == route.query, "\(route.template)")
            let path = parameters.filter { $0["in"] as? String == "path" }.compactMap { $0["name"] as? String }
            #expect(path.allSatisfy { route.template.contains("{\($0)}") }, "\(route.template)")
            #expect(path.count == route.template.split(separator: "{").count - 1, "\(route.template)")
            let body = operation["requestBody"] as? [String: Any]
            #expect((body != nil) == (route.body != .none), "\(route.template)")
            if let body { #expect(body["required"] as? Bool == (route.body == .required), "\(route.template)") }
        }
    }

    @Test func everyAnswerOfEveryRouteIsDocumented() throws {
        let document = try Self.document()
        for route in RouteTable.routes {
            let operation = try Self.object(document, "paths", route.template, route.method.rawValue.lowercased())
            let statuses = Set(try Self.object(operation, "responses").keys)
            var expected: Set<String> = ["400", "403", "500", "503"]
            if route.body != .none { expected.formUnion(["413", "415"]) }
            if route.template.contains("{") { expected.insert("404") }
            #expect(statuses.isSuperset(of: expected), "\(route.method) \(route.template)")
            #expect(statuses.filter { $0.hasPrefix("2") }.count == 1, "\(route.method) \(route.template)")
        }
    }

    @Test func everyReferenceLeadsSomewhere() throws {
        let document = try Self.document()
        func visit(_ value: Any) throws {
            if let object = value as? [String: Any] {
                if object["$ref"] != nil { _ = try Self.resolved(object, in: document) }
                for item in object.values { try visit(item) }
            } else if let array = value as? [Any] {
                for item in array { try visit(item) }
            }
        }
        try visit(document)
    }

    @Test func problemTypesAreThoseOfTheCode() throws {
        let problem = try Self.object(Self.document(), "components", "schemas", "Problem", "properties", "type")
        let types = Problem.Code.allCases.map { "urn:vusb:problem:" + $0.rawValue }
        let written = try #require(problem["enum"] as? [String])
        #expect(Set(written) == Set(types))
    }

    @Test func schemasHaveTheFieldsOfTheMessages() throws {
        let attachment = AttachmentInfo(
            device: "d", guest: "g", path: "1-1", busNumber: 1, deviceNumber: 1, major: 189, minor: 0,
            mode: "files", state: "attached", urbsInFlight: 0, urbs: 0, failedURBs: 0, bytesIn: 0, bytesOut: 0,
            peer: "p", idleSeconds: 1)
        let device = DeviceInfo(
            id: "d", source: "s", state: .refused, reason: "r", idVendor: "0000", idProduct: "0000", serial: "s",
            manufacturer: "m", product: "p", speed: "high", deviceClass: "00", interfaces: [], attachment: attachment,
            hold: HoldInfo(until: 1, reason: ""))
        let verdict = ClaimExplanation.Verdict(claim: "", fits: true, decides: true, reason: "")
        let auto = AutoModeInfo(
            mode: "redirect", next: "module", reason: "", windowSeconds: 1, loads: 0, unloads: 0, attaches: 0,
            detaches: 0,
            switches: 0, extraSeconds: 0)
        let channel = ChannelInfo(state: "", peer: "", oneAtATime: false, urbsInFlight: 0)
        let problem = Problem(.failed, "d", remedy: "r", candidates: [])
        let step = OperationInfo.Step(name: "n", atMilliseconds: 0)
        let messages: [(String, any Encodable)] = [
            (
                "DaemonStatus",
                DaemonStatus(
                    version: "", pid: 1, mount: "", uptimeSeconds: 0, guests: 0, devices: 0, attachments: 0,
                    urbsInFlight: 0)
            ),
            ("DeviceInfo", device), ("AttachmentInfo", attachment), ("Problem", problem), ("OperationStep", step),
            (
                "GuestSpec",
                GuestSpec(
                    name: "", connector: "", mode: "", qmp: "", agent: "", share: "", policy: "", owner: "", group: "",
                    fileMode: "", nodes: true, priority: 1, maxBytesPerSecond: 1, maxURBs: 1, maxBytesInFlight: 1,
                    maxDevices: 1, heartbeatSeconds: 1, listen: [], clients: [], devices: [])
            ),
            (
                "GuestInfo",
                GuestInfo(
                    name: "", connector: "", mode: "", loadedMode: "", auto: auto, policy: "", qmp: "", agent: "",
                    share: "", export: "",
                    channel: channel, machine: .running, state: .failed, reason: "", owner: 0, group: 0, fileMode: "",
                    nodeMajor: 384, devices: [], declaredBy: "", attachments: [])
            ),
            ("ChannelInfo", channel), ("AutoModeInfo", auto),
            (
                "ModuleInfo",
                ModuleInfo(kernelRelease: "", vermagic: "", version: "", directory: "", fault: "")
            ),
            ("LoadRequest", LoadRequest(mode: "", process: 1)), ("AttachRequest", AttachRequest(guest: "")),
            ("ReleaseRequest", ReleaseRequest(deadlineSeconds: 1, onDeadline: .refuse)),
            ("SwitchRequest", SwitchRequest(guest: "", deadlineSeconds: 1, onDeadline: .refuse)),
            ("FocusRequest", FocusRequest(guest: "", set: "", deadlineSeconds: 1, onDeadline: .refuse)),
            (
                "FocusInfo",
                FocusInfo(
                    name: "", devices: [], guests: [], hotKey: "", follows: false, present: [], focused: "")
            ),
            ("HoldRequest", HoldRequest(seconds: 1, reason: "")), ("HoldInfo", HoldInfo(until: 1, reason: "")),
            ("ClaimSpec", ClaimSpec(name: "", match: [], except: [], guests: [], force: true, failBack: .never)),
            (
                "ClaimInfo",
                ClaimInfo(
                    name: "", match: [], except: [], guests: [], force: true, failBack: .never, declaredBy: "",
                    devices: [])
            ),
            ("ClaimVerdict", verdict),
            (
                "ClaimExplanation",
                ClaimExplanation(device: "", holder: "", heir: "", row: "", reason: "", claims: [verdict])
            ),
            ("ImportRequest", ImportRequest(server: "", busid: "", name: "", keepTrying: true)),
            (
                "ImportInfo",
                ImportInfo(
                    id: "", server: "", busid: "", state: .waiting, reason: "", since: 0, attempts: 1, retrySeconds: 1,
                    declaredBy: "")
            ),
            (
                "OfferInfo",
                OfferInfo(
                    busid: "", name: "", kind: "", imported: "", importState: .waiting, reason: "", fault: "")
            ),
            ("EmulateRequest", EmulateRequest(specification: "")), ("TypeRequest", TypeRequest(text: "", keys: [])),
            (
                "OperationInfo",
                OperationInfo(
                    id: 1, kind: "", guest: "", device: "", state: .failed, steps: [step], error: problem,
                    attachment: attachment)
            ),
            (
                "EventInfo",
                EventInfo(sequence: 1, time: 0, type: "", guest: "", device: "", path: "", detail: "")
            ),
            ("Finding", Finding(check: "", level: .ok, summary: "", remedy: "")),
        ]
        let schemas = try Self.object(Self.document(), "components", "schemas")
        for (name, message) in messages {
            let encoded = try JSONSerialization.jsonObject(with: JSONEncoder().encode(message))
            let properties = try Self.object(schemas, name, "properties")
            let fields = try Self.object(encoded).keys
            #expect(Set(properties.keys) == Set(fields), "\(name)")
        }
    }

    @Test func requestsAreClosedAndHaveTheFieldsThatAreRead() throws {
        let schemas = try Self.object(Self.document(), "components", "schemas")
        let requests: [(String, any RequestMessage.Type)] = [
            ("GuestSpec", GuestSpec.self), ("LoadRequest", LoadRequest.self),
            ("ReleaseRequest", ReleaseRequest.self), ("AttachRequest", AttachRequest.self),
            ("EmulateRequest", EmulateRequest.self), ("TypeRequest", TypeRequest.self),
            ("SwitchRequest", SwitchRequest.self), ("FocusRequest", FocusRequest.self),
            ("HoldRequest", HoldRequest.self),
            ("ClaimSpec", ClaimSpec.self), ("ImportRequest", ImportRequest.self),
        ]
        for (name, type) in requests {
            let schema = try Self.object(schemas, name)
            #expect(schema["additionalProperties"] as? Bool == false, "\(name)")
            let properties = try Self.object(schema, "properties").keys
            #expect(Set(properties) == Set(type.fields), "\(name)")
        }
    }

    @Test func boundsAreThoseOfTheRules() throws {
        let document = try Self.document()
        let schemas = try Self.object(document, "components", "schemas")
        let deadline = try Self.object(schemas, "ReleaseRequest", "properties", "deadlineSeconds")
        #expect(deadline["minimum"] as? Double == Rules.deadlines.lowerBound)
        #expect(deadline["maximum"] as? Double == Rules.deadlines.upperBound)
        let process = try Self.object(schemas, "LoadRequest", "properties", "process")
        #expect(process["minimum"] as? Int == Rules.processes.lowerBound)
        #expect(process["maximum"] as? Int == Rules.processes.upperBound)
        #expect(try Self.object(schemas, "DeviceName")["maxLength"] as? Int == Rules.longestDeviceName)
        #expect(try Self.object(schemas, "Mode")["enum"] as? [String] == Rules.modes)
        let spec = try Self.object(schemas, "GuestSpec", "properties")
        #expect(try Self.object(spec, "connector")["enum"] as? [String] == Rules.connectors)
        #expect(try Self.object(schemas, "Policy")["enum"] as? [String] == Rules.policies)
        #expect(try Self.object(schemas, "SocketPath")["maxLength"] as? Int == Rules.longestSocketPath)
        #expect(try Self.object(spec, "devices")["maxItems"] as? Int == Rules.mostDevices)
        for name in ["GuestSpec", "GuestInfo"] {
            let priority = try Self.object(schemas, name, "properties", "priority")
            #expect(priority["minimum"] as? Int == Rules.priorities.lowerBound)
            #expect(priority["maximum"] as? Int == Rules.priorities.upperBound)
        }
        #expect(try Self.object(schemas, "Limit")["minimum"] as? Int == Rules.limits.lowerBound)
        #expect(try Self.object(schemas, "Limit")["maximum"] as? Int == Rules.limits.upperBound)
        let hold = try Self.object(schemas, "HoldRequest", "properties")
        #expect(try Self.object(hold, "seconds")["minimum"] as? Double == Rules.holds.lowerBound)
        #expect(try Self.object(hold, "seconds")["maximum"] as? Double == Rules.holds.upperBound)
        #expect(try Self.object(hold, "reason")["maxLength"] as? Int == Rules.longestReason)
        let claim = try Self.object(schemas, "ClaimSpec", "properties")
        #expect(try Self.object(claim, "match")["maxItems"] as? Int == Rules.mostTerms)
        #expect(try Self.object(claim, "except")["maxItems"] as? Int == Rules.mostTerms)
        #expect(try Self.object(claim, "guests")["maxItems"] as? Int == Rules.mostHeirs)
        #expect(try Self.object(schemas, "ClaimTerm")["maxLength"] as? Int == Rules.longestTerm)
        let forget = try Self.object(document, "paths", "/v1/imports/{device}", "delete")
        let wanted = try #require(
            (forget["parameters"] as? [[String: Any]])?.first { $0["name"] as? String == "deadline" })
        #expect(try Self.object(wanted, "schema")["maximum"] as? Double == Rules.deadlines.upperBound)
        let text = try Self.object(schemas, "TypeRequest", "properties", "text")
        #expect(text["maxLength"] as? Int == Rules.longestText)
        let emulation = try Self.object(schemas, "EmulateRequest", "properties", "specification")
        #expect(emulation["maxLength"] as? Int == Rules.longestSpecification)
        let show = try Self.object(document, "paths", "/v1/operations/{id}", "get")
        let wait = try #require((show["parameters"] as? [[String: Any]])?.first { $0["name"] as? String == "wait" })
        #expect(try Self.object(wait, "schema")["maximum"] as? Double == Rules.waits.upperBound)
    }

    /// Whether the schema's pattern and length let each of the texts in.
    private static func verdicts(_ name: String, _ texts: [String]) throws -> [Bool] {
        let schema = try object(document(), "components", "schemas", name)
        let text = try #require(schema["pattern"] as? String)
        // JSON Schema's regular expressions are ECMA-262's, where $ isn't the place before a last newline.
        let pattern = try NSRegularExpression(pattern: text.dropLast() + (text.hasSuffix("$") ? "\\z" : ""))
        let longest = schema["maxLength"] as? Int ?? .max
        return texts.map { text in
            let range = NSRange(text.startIndex..., in: text)
            return pattern.firstMatch(in: text, range: range) != nil && text.unicodeScalars.count <= longest
        }
    }

    @Test func socketPathsAreThoseOfTheRules() throws {
        let long = String(repeating: "a", count: 106)
        let paths = [
            "", "/", "/a", "a", "a/b", "/a\u{7f}", "/a\n", "\n/a", "/run/vm 1/\u{e9}", "/" + long, "//" + long,
        ]
        #expect(try Self.verdicts("SocketPath", paths) == paths.map(Rules.isSocketPath))
        // The schema has no way to count bytes.
        #expect(!Rules.isSocketPath("/" + String(repeating: "\u{e9}", count: 54)))
    }

    @Test func sharesAreThoseOfTheRules() throws {
        func tag(_ count: Int) -> String { String(repeating: "t", count: count) }
        let shares = [
            "", "virtiofs", "virtiofs:", "virtiofs:vusb", "9p:vusb", "nfs:vusb", "host:x", "Virtiofs:x", "9p:-o",
            "virtiofs:.x", "virtiofs:_x", "9p:a.b-c_D9", "9p:a b", "9p:a:b", "9p:a/b", "9p:\u{e9}", "9p:a\n", " 9p:a",
            "virtiofs:" + tag(36), "virtiofs:" + tag(37), "9p:" + tag(31), "9p:" + tag(32),
        ]
        #expect(try Self.verdicts("Share", shares) == shares.map { Rules.share($0) != nil })
        #expect(Rules.share("9p:a.b")?.kind == "9p")
        #expect(Rules.share("9p:a.b")?.tag == "a.b")
    }

    @Test func serversAreThoseOfTheRules() throws {
        let host = String(repeating: "a", count: 253)
        let servers = [
            "", "host", "host:3240", "host:0", "host:65535", "host:65536", "host:03240", "host:", ":3240", "-host",
            "a_b.c-d",
            "10.0.0.2", "10.0.0.2:1", host, host + "a", "ho st", "h\u{e9}", "host\n", "a:b", "a:1:2",
            "[::1]", "[::1]:3240", "[::1]3240", "[::1", "::1", "[fe80::1%eth0]:1", "[fe80::1%]", "[fe80::1%a/b]",
            "[10.0.0.2]",
            "[12345::1]", "[:]", "[::]", "[" + String(repeating: ":", count: 45) + "]",
            "[" + String(repeating: ":", count: 46) + "]", "[::ffff:10.0.0.2]",
            "unix:/run/x", "unix:/", "unix:run", "unix:80", "unix:", "unix", "unix:/a\u{7f}",
            "unix:/" + String(repeating: "a", count: 106), "unix:/" + String(repeating: "a", count: 107),
            "vsock:2", "vsock:2:3240", "vsock:", "vsock:02", "vsock:2:", "vsock:2:3:4", "vsock:1234567890", "vsock",
            "vsock:x",
        ]
        for (server, verdict) in zip(servers, try Self.verdicts("Server", servers)) {
            #expect(verdict == Rules.isServer(server), "\(server)")
        }
    }

    @Test func busIDsAndImportsNamesAreThoseOfTheRules() throws {
        let texts = [
            "", "1", "1-2.3", "a_b:c", "1/2", "1 2", "1\n", "\u{e9}", ".", "-a", String(repeating: "1", count: 31),
            String(repeating: "1", count: 32), String(repeating: "1", count: 60), String(repeating: "1", count: 61),
        ]
        #expect(try Self.verdicts("BusID", texts) == texts.map(Rules.isBusID))
        #expect(try Self.verdicts("ImportName", texts) == texts.map(Rules.isImportName))
    }

    @Test func keyNamesAreThoseOfTheRules() throws {
        let names = [
            "", "scrolllock", "Scrolllock", "leftctrl", "left", "rightmeta", "f1", "f0", "f24", "f25", "f01", "a", "A",
            "~",
            " ", "\t", "\n", "ab", "\u{e9}", "scrolllock\n",
        ]
        #expect(try Self.verdicts("KeyName", names) == names.map(Rules.isKey))
    }

    @Test func guestNamePatternIsThatOfTheRules() throws {
        let names = [
            "", "a", "0", "-", "a-", "-a", "A", "a.b", "a/b", "..", "a_b", "\u{e9}", "a b", "vm-1",
            String(repeating: "a", count: 63), String(repeating: "a", count: 64),
        ]
        #expect(try Self.verdicts("GuestName", names) == names.map(Rules.isGuestName))
    }
}
