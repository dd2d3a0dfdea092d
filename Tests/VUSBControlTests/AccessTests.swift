// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import VUSBControl

/// Who may do what on the control socket. Whoever runs the tests has the role under test.
@Suite struct AccessTests {
    private static let rules = [
        AccessRule(name: "access[0]", users: [1000], role: .operator),
        AccessRule(name: "access[1]", users: [1000], groups: [50], role: .viewer),
        AccessRule(name: "access[2]", groups: [60], role: .guest, guests: ["vm1"]),
    ]

    @Test(arguments: [
        (PeerCredentials(pid: 1, user: 0, group: 50), AccessRole.operator),
        (PeerCredentials(pid: 1, user: 1000, group: 50), .operator),
        (PeerCredentials(pid: 1, user: 1001, group: 50), .viewer),
        (PeerCredentials(pid: 1, user: 1001, group: 7, groups: [60, 991]), .guest),
        (PeerCredentials(pid: 1, user: 1001, group: 7, groups: [991]), .operator),
        (PeerCredentials(pid: 1, user: 1001, group: 7), nil),
    ])
    func theFirstRuleThatNamesThemHolds(peer: PeerCredentials, role: AccessRole?) {
        let policy = PeerPolicy(users: [0], group: 991, rules: Self.rules)
        #expect(policy.rule(for: peer)?.role == role)
    }

    private static func with(
        _ role: AccessRole, _ guests: Set<String> = [], _ body: @Sendable (ServerFixture) async throws -> Void
    ) async throws {
        let rule = AccessRule(name: "access[7]", users: [geteuid()], role: role, guests: guests)
        try await ServerFixture.with {
            $0.policy = PeerPolicy(users: [], group: nil, rules: [rule])
        } _: { fixture in
            for name in ["demo", "vm1"] { _ = try await fixture.service.addGuest(GuestSpec(name: name)) }
            await fixture.service.give("1-2.3")
            try await body(fixture)
        }
    }

    /// What isn't for this role, by what it would do; a body that is wrong doesn't matter.
    private static let changes = [
        ("POST /v1/guests", #"{"name":"new"}"#), ("DELETE /v1/guests/demo", ""),
        ("POST /v1/devices", #"{"specification":"zero"}"#), ("DELETE /v1/devices/1-2.3", ""),
        ("POST /v1/claims", #"{"name":"a","match":["class=08"],"guests":["vm1"]}"#), ("DELETE /v1/claims/a", ""),
        ("POST /v1/imports", #"{"server":"a","busid":"1-1"}"#), ("DELETE /v1/imports/ip-a-1-1", ""),
        ("GET /v1/servers/a/devices", ""),
        ("POST /v1/devices/1-2.3/type", #"{"text":"a"}"#), ("POST /v1/devices/1-2.3/trust", ""),
        ("POST /v1/guests/demo/load", ""), ("POST /v1/guests/demo/unload", ""),
        ("POST /v1/devices/1-2.3/attach", #"{"guest":"demo"}"#), ("POST /v1/devices/1-2.3/detach", ""),
        ("POST /v1/devices/1-2.3/switch", #"{"guest":"demo"}"#),
        ("POST /v1/devices/1-2.3/request", #"{"guest":"demo"}"#),
        ("POST /v1/devices/1-2.3/hold", ""), ("DELETE /v1/devices/1-2.3/hold", ""),
        ("POST /v1/focus", #"{"guest":"demo"}"#), ("DELETE /v1/operations/1", ""),
    ]

    private static func refused(_ fixture: ServerFixture, _ head: String, _ body: String) async throws {
        let reply =
            try await body.isEmpty ? fixture.exchange(head) : fixture.exchange(head, json: body)
        #expect(reply.status == 403 || reply.status == 404, "\(head): \(reply.status)")
    }

    @Test func aViewerLooksAndChangesNothing() async throws {
        try await Self.with(.viewer) { fixture in
            for path in [
                "status", "devices", "guests", "claims", "imports", "focus", "operations", "doctor", "modules",
            ] {
                #expect(try await fixture.exchange("GET /v1/\(path)").status == 200, "\(path)")
            }
            for (head, body) in Self.changes { try await Self.refused(fixture, head, body) }
            let refusals = await fixture.service.refusals
            #expect(refusals.count >= Self.changes.count - 1)
            #expect(refusals.first?.contains("uid \(geteuid())") == true)
            #expect(refusals.first?.hasSuffix("POST /v1/guests: access[7]") == true)
        }
    }

    @Test func whoOwnsAGuestMayDoWhatIsItsOwn() async throws {
        try await Self.with(.guest, ["vm1"]) { fixture in
            for (head, body) in Self.changes { try await Self.refused(fixture, head, body) }
            for (head, body) in [
                ("POST /v1/guests/vm1/load", "{}"), ("POST /v1/guests/vm1/unload", "{}"),
                ("POST /v1/devices/1-2.3/attach", #"{"guest":"vm1"}"#),
                ("POST /v1/devices/1-2.3/request", #"{"guest":"vm1"}"#),
                ("POST /v1/devices/1-2.3/switch", #"{"guest":"vm1"}"#), ("POST /v1/focus", #"{"guest":"vm1"}"#),
            ] {
                #expect(try await fixture.exchange(head, json: body).status == 202, "\(head)")
            }
            for body in [#"{"process":1}"#, #"{"mode":"module"}"#] {
                #expect(try await fixture.exchange("POST /v1/guests/vm1/load", json: body).status == 403)
            }
            // What somebody else has isn't to be torn away from them.
            await fixture.service.give("emulated:keyboard-1")
            #expect(try await fixture.exchange("POST /v1/focus", json: #"{"guest":"vm1"}"#).status == 403)
            let torn = try await fixture.exchange(
                "POST /v1/devices/1-2.3/switch", json: #"{"guest":"vm1","onDeadline":"cancel"}"#)
            #expect(torn.status == 403)
        }
    }

    @Test func anOperatorMayDoAll() async throws {
        try await Self.with(.operator) { fixture in
            for (head, body) in Self.changes {
                let reply =
                    try await body.isEmpty ? fixture.exchange(head) : fixture.exchange(head, json: body)
                #expect(reply.status != 403, "\(head)")
            }
            #expect(await fixture.service.refusals.isEmpty)
        }
    }
}
