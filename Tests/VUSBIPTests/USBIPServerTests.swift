// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore

@testable import VUSBIP

@Suite("USB/IP imports: what servers and devices are called")
struct USBIPServerTests {
    @Test(
        "what is read is written the same way",
        arguments: [
            "10.0.0.2", "host.example", "host:3241", "[fe80::1]", "[fe80::1%eth0]:3241", "unix:/run/x.sock", "vsock:2",
            "vsock:3:99",
        ])
    func roundTrip(text: String) throws {
        let server = try #require(USBIPServer(text))
        #expect("\(server)" == text)
        #expect(USBIPServer("\(server)") == server)
    }

    @Test("the port is 3240, and an address of IPv6 needs no brackets")
    func defaults() {
        #expect(USBIPServer("host") == .tcp(host: "host", port: 3240))
        #expect(USBIPServer("fe80::1") == .tcp(host: "fe80::1", port: 3240))
        #expect(USBIPServer("vsock:2") == .vsock(cid: 2, port: 3240))
    }

    @Test(
        "what can't be isn't read",
        arguments: [
            "", "-x", "host:", "host:0", "host:65536", "host:+1", "ho st", "[fe80::1", "[fe80::1]3241", "[host]:1",
            "unix:run", "unix:", "vsock:", "vsock:a", "vsock:1:2:3", "host/x", "vsock:-1", "unix:/a\u{7}",
        ])
    func nonsense(text: String) {
        #expect(USBIPServer(text) == nil)
    }

    @Test("busids")
    func busIDs() {
        let server = USBIPServer.vsock(cid: 2)
        #expect(USBIPRemote(server: server, busID: "1-1.2:1.0") != nil)
        #expect(USBIPRemote(server: server, busID: String(repeating: "1", count: 31)) != nil)
        for bad in ["", String(repeating: "1", count: 32), "1/2", "1 2", "\u{e9}"] {
            #expect(USBIPRemote(server: server, busID: bad) == nil)
        }
    }

    @Test(
        "ids are made of server and busid, the same every time",
        arguments: [
            ("10.0.0.2", "ip-10.0.0.2-1-1"), ("[fe80::1]:3241", "ip-fe80--1-3241-1-1"),
            ("unix:/run/vusb/x.sock", "ip-run-vusb-x.sock-1-1"), ("vsock:2", "ip-vsock-2-1-1"),
        ])
    func ids(text: String, id: String) throws {
        let remote = try #require(USBIPServer(text).flatMap { USBIPRemote(server: $0, busID: "1-1") })
        #expect(try remote.id(name: nil).rawValue == id)
        #expect(try remote.id(name: "disk").rawValue == "ip-disk")
        #expect(throws: USBError.self) { try remote.id(name: "-x") }
        #expect(throws: USBError.self) { try remote.id(name: "a/b") }
    }

    @Test("long ones are cut, and stay two")
    func longIDs() throws {
        let names = ["a", "b"].map { String(repeating: "x", count: 100) + $0 }
        let ids = try names.map { name in
            try #require(USBIPRemote(server: .tcp(host: name), busID: "1-1")).id(name: nil).rawValue
        }
        #expect(ids[0] != ids[1] && ids.allSatisfy { $0.utf8.count <= 63 })
    }
}
