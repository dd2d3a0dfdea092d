// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl

/// What each wrong request is answered.
@Suite struct StatusCodeTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var head: String
        var json: String?
        var status: Int
        var code: Problem.Code
        /// A part of the detail.
        var says: String

        init(_ head: String, json: String? = nil, _ status: Int, _ code: Problem.Code, _ says: String = "") {
            self.head = head
            self.json = json
            self.status = status
            self.code = code
            self.says = says
        }

        var testDescription: String { "\(head) \(json?.prefix(60) ?? "") is \(status)" }
    }

    static let long = String(repeating: "a", count: 300)

    static let cases = [
        // Paths
        Case("GET /", 404, .notFound), Case("GET /v1", 404, .notFound), Case("GET /v2/status", 404, .notFound),
        Case("GET /v1/status/", 404, .notFound), Case("GET /v1/devices/a/b", 404, .notFound),
        Case("OPTIONS *", 404, .notFound),
        // Names
        Case("GET /v1/guests/none", 404, .notFound, "none"), Case("GET /v1/devices/none", 404, .notFound, "none"),
        Case("GET /v1/devices/1-2.3%3aX", 404, .notFound), Case("GET /v1/guests/%00", 400, .malformed, "NUL"),
        Case("GET /v1/guests/a%00b", 400, .malformed, "NUL"), Case("GET /v1/guests/%ff", 400, .malformed, "UTF-8"),
        Case("GET /v1/guests/%c0%af", 400, .malformed, "UTF-8"), Case("GET /v1/guests/%2", 400, .malformed, "%"),
        Case("GET /v1/guests/%zz", 400, .malformed, "%"), Case("GET /v1/guests/..", 400, .malformed, ".."),
        Case("GET /v1/guests/a%2fb", 400, .malformed, "a/b"), Case("GET /v1/guests/", 400, .malformed),
        Case("GET /v1/guests/-a", 400, .malformed), Case("GET /v1/guests/Demo", 400, .malformed),
        Case("GET /v1/guests/\(long)", 400, .malformed), Case("DELETE /v1/guests/\(long)", 400, .malformed),
        Case("GET /v1/devices/\(long)", 400, .malformed), Case("GET /v1/devices/%0a", 400, .malformed),
        Case("POST /v1/guests/a%20b/load", 400, .malformed),
        // Operations
        Case("GET /v1/operations/9", 404, .notFound), Case("GET /v1/operations/x", 400, .malformed),
        Case("GET /v1/operations/0", 400, .malformed), Case("GET /v1/operations/-1", 400, .malformed),
        Case("GET /v1/operations/01", 400, .malformed),
        Case("GET /v1/operations/99999999999999999999", 400, .malformed),
        Case("DELETE /v1/operations/9", 404, .notFound),
        Case("GET /v1/operations/1?wait=61", 400, .malformed, "wait"),
        Case("GET /v1/operations/1?wait=-1", 400, .malformed, "wait"),
        Case("GET /v1/operations/1?wait=nan", 400, .malformed, "wait"),
        Case("GET /v1/operations/1?wait=0x1p3", 400, .malformed, "wait"),
        Case("GET /v1/operations/1?wait=", 400, .malformed, "wait"),
        Case("GET /v1/operations/1?after=1.5", 400, .malformed, "after"),
        Case("GET /v1/operations/1?wait=1&wait=2", 400, .malformed, "twice"),
        // Queries
        Case("GET /v1/status?verbose=1", 400, .malformed, "verbose"),
        Case("GET /v1/events?after=x", 400, .malformed, "after"),
        Case("GET /v1/operations/1?wiat=1", 400, .malformed, "wiat"),
        // Methods
        Case("PUT /v1/devices", 405, .methodNotAllowed), Case("POST /v1/status", 405, .methodNotAllowed),
        Case("PATCH /v1/guests/a", 405, .methodNotAllowed), Case("OPTIONS /v1/guests", 405, .methodNotAllowed),
        Case("TRACE /v1/guests", 405, .methodNotAllowed), Case("GET /v1/guests/a/load", 405, .methodNotAllowed),
        // Bodies
        Case("POST /v1/guests", json: "{", 400, .malformed, "JSON"),
        Case("POST /v1/guests", json: "3", 400, .malformed, "object"),
        Case("POST /v1/guests", json: "[]", 400, .malformed, "object"),
        Case("POST /v1/guests", json: "null", 400, .malformed),
        Case("POST /v1/guests", json: "{}", 400, .malformed, "'name' is missing"),
        Case("POST /v1/guests", json: #"{"name":"a","nmae":"b"}"#, 400, .malformed, "nmae"),
        Case("POST /v1/guests", json: #"{"name":7}"#, 400, .malformed, "'name' isn't a string"),
        Case("POST /v1/guests", json: #"{"name":null}"#, 400, .malformed, "'name' is null"),
        Case("POST /v1/guests", json: #"{"name":"a","mode":null}"#, 400, .malformed, "'mode' is null"),
        Case("POST /v1/guests", json: #"{"name":"../x"}"#, 400, .malformed, "name"),
        Case("POST /v1/guests", json: #"{"name":"a","mode":"fast"}"#, 400, .malformed, "mode"),
        Case("POST /v1/guests", json: #"{"name":"a","connector":"xen"}"#, 400, .malformed, "connector"),
        Case("POST /v1/guests", json: #"{"name":"a","mode": "teleport"}"#, 400, .malformed, "mode"),
        Case("POST /v1/guests", json: #"{"name":"a","policy":"always"}"#, 400, .malformed, "policy"),
        Case("POST /v1/guests", json: #"{"name":"a","qmp":"run/qmp"}"#, 400, .malformed, "'qmp'"),
        Case("POST /v1/guests", json: #"{"name":"a","agent":"/a\u0000b"}"#, 400, .malformed, "'agent'"),
        Case("POST /v1/guests", json: #"{"name":"a","share":"virtiofs:-o"}"#, 400, .malformed, "'share'"),
        Case("POST /v1/guests", json: #"{"name":"a","share":null}"#, 400, .malformed, "'share' is null"),
        Case("POST /v1/guests", json: #"{"name":"a","loadedMode":"files"}"#, 400, .malformed, "loadedMode"),
        Case("POST /v1/guests/a/load", json: #"{"mode": "teleport"}"#, 400, .malformed, "mode"),
        Case("POST /v1/modules", 405, .methodNotAllowed), Case("GET /v1/modules/x", 404, .notFound),
        Case("POST /v1/guests", json: #"{"name":"a","fileMode":"0888"}"#, 400, .malformed, "fileMode"),
        Case("POST /v1/guests", json: #"{"name":"a","owner":"-x"}"#, 400, .malformed, "owner"),
        Case("POST /v1/guests", json: #"{"name":"a","devices":"1-1"}"#, 400, .malformed, "devices"),
        Case("POST /v1/guests", json: #"{"name":"a","devices":["1-1",2]}"#, 400, .malformed, "devices.1"),
        Case("POST /v1/guests", json: #"{"name":"a","devices":[""]}"#, 400, .malformed, "devices"),
        Case("POST /v1/devices", json: #"{"specification":""}"#, 400, .malformed, "specification"),
        Case("POST /v1/devices/1-2.3/attach", json: #"{"guest":"A"}"#, 400, .malformed, "guest"),
        Case("POST /v1/devices/1-2.3/attach", json: #"{"guest":"none"}"#, 404, .notFound, "none"),
        Case("POST /v1/devices/1-2.3/type", json: #"{"text":"\u00e9"}"#, 400, .malformed, "U+E9"),
        Case("POST /v1/devices/1-2.3/type", json: #"{"text":""}"#, 400, .malformed, "text"),
        Case("POST /v1/devices/1-2.3/detach", json: #"{"deadlineSeconds":-1}"#, 400, .malformed, "deadlineSeconds"),
        Case("POST /v1/devices/1-2.3/detach", json: #"{"deadlineSeconds":3601}"#, 400, .malformed, "deadlineSeconds"),
        Case("POST /v1/devices/1-2.3/detach", json: #"{"deadlineSeconds":"5"}"#, 400, .malformed, "a number"),
        Case("POST /v1/devices/1-2.3/detach", json: #"{"deadlineSeconds":1e999}"#, 400, .malformed),
        Case("POST /v1/devices/1-2.3/detach", json: #"{"onDeadline":"later"}"#, 400, .malformed, "onDeadline"),
        Case("POST /v1/guests/a/load", json: #"{"process":0}"#, 400, .malformed, "process"),
        Case("POST /v1/guests/a/load", json: #"{"process":true}"#, 400, .malformed, "an integer"),
        Case("POST /v1/guests/a/load", json: #"{"process":1.5}"#, 400, .malformed, "process"),
        // Imports
        Case("GET /v1/imports/ip-none", 404, .notFound, "ip-none"), Case("DELETE /v1/imports/ip-none", 404, .notFound),
        Case("PUT /v1/imports", 405, .methodNotAllowed), Case("POST /v1/imports/a", 405, .methodNotAllowed),
        Case("DELETE /v1/imports/a?deadline=-1", 400, .malformed, "deadline"),
        Case("DELETE /v1/imports/a?onDeadline=later", 400, .malformed, "onDeadline"),
        Case("DELETE /v1/imports/a?force=1", 400, .malformed, "force"),
        Case("POST /v1/imports", json: #"{"server":"a"}"#, 400, .malformed, "'busid' is missing"),
        Case("POST /v1/imports", json: #"{"server":"a b","busid":"1-1"}"#, 400, .malformed, "server"),
        Case("POST /v1/imports", json: #"{"server":"a:0","busid":"1-1"}"#, 400, .malformed, "server"),
        Case("POST /v1/imports", json: #"{"server":"a","busid":"1/1"}"#, 400, .malformed, "busid"),
        Case("POST /v1/imports", json: #"{"server":"a","busid":"1-1","name":"-"}"#, 400, .malformed, "name"),
        Case("POST /v1/imports", json: #"{"server":"a","busid":"1-1","keepTrying":1}"#, 400, .malformed, "keepTrying"),
        Case("GET /v1/servers/a%20b/devices", 400, .malformed, "server"),
        Case("GET /v1/servers/silent/devices", 504, .timedOut, "silent"), Case("GET /v1/servers", 404, .notFound),
        // State
        Case("GET /v1/devices/0525:a4a0", 409, .ambiguous, "fits 2"),
    ]

    @Test func wrongRequestsGetTheirStatusAsAProblem() async throws {
        try await ServerFixture.with { fixture in
            for item in Self.cases {
                let reply =
                    if let json = item.json {
                        try await fixture.exchange(item.head, json: json)
                    } else {
                        try await fixture.exchange(item.head)
                    }
                #expect(reply.status == item.status, "\(item.testDescription): \(reply.body)")
                #expect(reply.fields["content-type"] == "application/problem+json", "\(item.testDescription)")
                let problem = try reply.problem
                #expect(problem.code == item.code, "\(item.testDescription): \(reply.body)")
                #expect(problem.status == item.status)
                #expect(problem.detail.contains(item.says), "\(item.testDescription): \(problem.detail)")
            }
        }
    }

    @Test func otherMethodNamesThoseThatThereAre() async throws {
        try await ServerFixture.with { fixture in
            let devices = try await fixture.exchange("PUT /v1/devices")
            #expect(devices.fields["allow"] == "GET, POST")
            let operation = try await fixture.exchange("POST /v1/operations/1")
            #expect(operation.fields["allow"] == "GET, DELETE")
        }
    }

    @Test func headIsRefusedWithoutABody() async throws {
        try await ServerFixture.with { fixture in
            let reply = try await fixture.exchange("HEAD /v1/status")
            #expect(reply.status == 405)
            #expect(reply.fields["allow"] == "GET")
            #expect(reply.body == "")
        }
    }

    @Test func bodyOfAnotherTypeIs415() async throws {
        let types = [
            "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "",
            "application/json; charset=latin1",
        ]
        try await ServerFixture.with { fixture in
            for type in types {
                let reply = try await fixture.exchange(
                    "POST /v1/guests", fields: ["Content-Type: \(type)"], body: Array(#"{"name":"a"}"#.utf8))
                #expect(reply.status == 415, "\(type)")
                #expect(try reply.problem.code == .unsupportedMediaType)
            }
            #expect(await fixture.service.guests().isEmpty)
        }
    }

    @Test(arguments: ["application/json", "Application/JSON", "application/json;charset=UTF-8"])
    func jsonInAnySpellingIsTaken(type: String) async throws {
        try await ServerFixture.with { fixture in
            let reply = try await fixture.exchange(
                "POST /v1/guests", fields: ["Content-Type: \(type)"], body: Array(#"{"name":"a"}"#.utf8))
            #expect(reply.status == 201)
            #expect(reply.fields["location"] == "/v1/guests/a")
        }
    }

    @Test func bodyBeyond64KiBIs413AndOneOf64KiBIsNot() async throws {
        try await ServerFixture.with { fixture in
            let json = ["Content-Type: application/json"]
            // White space around JSON is JSON.
            let fitting = Array(#"{"name":"a"}"#.utf8) + [UInt8](repeating: 0x20, count: 65536 - 12)
            #expect(try await fixture.exchange("POST /v1/guests", fields: json, body: fitting).status == 201)
            let tooLong = try await fixture.exchange("POST /v1/guests", fields: json, body: fitting + [0x20])
            #expect(tooLong.status == 413)
            #expect(try tooLong.problem.code == .tooLarge)
        }
    }

    @Test func chunkedBodyBeyond64KiBIs413() async throws {
        try await ServerFixture.with { fixture in
            let connection = try RawConnection(fixture.socketPath)
            let head = "POST /v1/guests HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
            let chunk = "8000\r\n" + String(repeating: " ", count: 0x8000) + "\r\n"
            await connection.send(head + "Transfer-Encoding: chunked\r\n\r\n" + chunk + chunk + chunk + "0\r\n\r\n")
            let reply = try #require(Reply(await connection.receive()))
            #expect(reply.status == 413)
        }
    }

    @Test func bodyThatIsNotUTF8Is400() async throws {
        try await ServerFixture.with { fixture in
            let reply = try await fixture.exchange(
                "POST /v1/guests", fields: ["Content-Type: application/json"],
                body: Array(#"{"name":""#.utf8) + [0xff, 0x22, 0x7d])
            #expect(reply.status == 400)
            #expect(try reply.problem.detail.contains("UTF-8"))
        }
    }

    @Test func deepNestingIs400() async throws {
        try await ServerFixture.with { fixture in
            let deep = String(repeating: "[", count: 30_000)
            let reply = try await fixture.exchange("POST /v1/guests", json: deep)
            #expect(reply.status == 400)
        }
    }

    @Test func problemOfTheServiceKeepsItsStatusAndCandidates() async throws {
        try await ServerFixture.with { fixture in
            let problems: [(Problem.Code, Int)] = [
                (.busy, 409), (.conflict, 409), (.timedOut, 504), (.failed, 500), (.unavailable, 503),
            ]
            for (code, status) in problems {
                await fixture.service.refuseAttach(Problem(code, "1-2.3 says no", remedy: "ask", candidates: ["a"]))
                let reply = try await fixture.exchange("POST /v1/devices/1-2.3/attach", json: #"{"guest":"a"}"#)
                #expect(reply.status == status)
                #expect(try reply.problem == Problem(code, "1-2.3 says no", remedy: "ask", candidates: ["a"]))
            }
        }
    }
}
