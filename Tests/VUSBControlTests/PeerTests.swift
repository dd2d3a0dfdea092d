// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import VUSBControl

@Suite struct PeerTests {
    static let policy = PeerPolicy(users: [0, 990], group: 991)

    @Test(arguments: [
        (PeerCredentials(pid: 1, user: 0, group: 0), true),
        (PeerCredentials(pid: 1, user: 990, group: 5), true),
        (PeerCredentials(pid: 1, user: 1000, group: 991), true),
        (PeerCredentials(pid: 1, user: 1000, group: 1000, groups: [27, 991]), true),
        (PeerCredentials(pid: 1, user: 1000, group: 1000, groups: [27]), false),
        (PeerCredentials(pid: 1, user: 991, group: 990), false),
        (PeerCredentials(pid: 1, user: UInt32.max, group: UInt32.max), false),
    ])
    func rootTheDaemonsUserAndTheGroupAreAdmitted(peer: PeerCredentials, admitted: Bool) {
        #expect((Self.policy.rule(for: peer)?.role == .operator) == admitted)
    }

    @Test func withoutAGroupNobodyIsAdmittedByIt() {
        let policy = PeerPolicy(users: [0], group: nil)
        #expect(policy.rule(for: PeerCredentials(pid: 1, user: 1000, group: 0, groups: [0])) == nil)
    }

    @Test func defaultPolicyAdmitsRootAndTheDaemonsUser() {
        #expect(PeerPolicy(group: nil).users == [0, geteuid()])
    }

    @Test func credentialsOfASocketPairAreThisProcess() throws {
        var ends: [Int32] = [-1, -1]
        let made = unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends)
        try #require(made == 0)
        defer { ends.forEach { close($0) } }
        let peer = try #require(PeerCredentials(socket: ends[0]))
        #expect(peer.pid == getpid())
        #expect(peer.user == geteuid())
        #expect(peer.group == getegid())
        let count = getgroups(0, nil)
        #expect(peer.groups.count == Int(count))
    }

    @Test func credentialsOfNoSocketAreNone() throws {
        let descriptor = unsafe open("/dev/null", O_RDONLY | O_CLOEXEC)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        #expect(PeerCredentials(socket: descriptor) == nil)
    }

    @Test func peerOutsideThePolicyGets403ForEverything() async throws {
        try await ServerFixture.with {
            // Whoever runs the tests isn't this.
            $0.policy = PeerPolicy(users: [UInt32.max - 1], group: nil)
        } _: { fixture in
            for head in [
                "GET /v1/status", "GET /openapi.json", "GET /v1/nothing", "PUT /v1/devices", "GET /v1/guests/%00",
            ] {
                let reply = try await fixture.exchange(head)
                #expect(reply.status == 403, "\(head)")
                #expect(try reply.problem.code == .denied)
            }
            let reply = try await fixture.exchange("POST /v1/guests", json: #"{"name":"a"}"#)
            #expect(reply.status == 403)
            #expect(await fixture.service.guests().isEmpty)
        }
    }

    @Test func memberOfTheGroupIsServed() async throws {
        try await ServerFixture.with {
            $0.policy = PeerPolicy(users: [], group: getegid())
        } _: { fixture in
            let status = try await fixture.client.status()
            #expect(status.version == "1.2.3")
        }
    }
}
