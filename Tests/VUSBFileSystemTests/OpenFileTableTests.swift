// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VUSBTestSupport

@testable import VUSBFileSystem

@Suite("Open files")
struct OpenFileTableTests {
    private final class File: OpenFile {
        let closes = Atomic(0)
        func read(_ reply: consuming sending FUSEReply, size: Int, offset: Int64, isNonblocking: Bool) {
            reply.error(5)
        }
        func closed() { closes.add(1, ordering: .relaxed) }
    }

    private func open(_ table: OpenFileTable, _ file: File?) -> FileHandleID? {
        guard case .opened(let id) = table.open({ _ in file }) else { return nil }
        return id
    }

    @Test("a file is found by its number until it's closed, and told of that once")
    func life() throws {
        let table = OpenFileTable()
        let file = File()
        let id = try #require(open(table, file))
        #expect(table.file(id) === file)
        table.close(id)
        table.close(id)
        #expect(table.file(id) == nil)
        #expect(file.closes.load(ordering: .relaxed) == 1)
        #expect(table.all.isEmpty)
    }

    @Test("the number of a closed file doesn't name the one that has its place now")
    func generations() throws {
        let table = OpenFileTable()
        let old = try #require(open(table, File()))
        table.close(old)
        let file = File()
        let new = try #require(open(table, file))
        #expect(new != old)
        #expect(table.file(old) == nil)
        table.close(old)
        #expect(table.file(new) === file)
    }

    @Test("numbers that were never given name nothing", arguments: [0, 1, 2, 1 << 32, .max] as [UInt64])
    func unknown(number: UInt64) {
        let table = OpenFileTable()
        #expect(table.file(FileHandleID(rawValue: number)) == nil)
        table.close(FileHandleID(rawValue: number))
    }

    @Test("what has nothing to open takes no place")
    func missing() {
        let table = OpenFileTable()
        guard case .missing = table.open({ _ in nil }) else {
            Issue.record("opened")
            return
        }
        #expect(table.all.isEmpty)
    }

    @Test("beyond the limit the table is full, until one closes")
    func limit() throws {
        let table = OpenFileTable()
        let file = File()
        let ids = (0..<OpenFileTable.limit).compactMap { _ in open(table, file) }
        #expect(ids.count == OpenFileTable.limit)
        guard case .full = table.open({ _ in file }) else {
            Issue.record("one too many")
            return
        }
        table.close(ids[7])
        #expect(open(table, file) != nil)
    }

    @Test("threads that open and close at once get numbers of their own")
    func threads() async {
        let table = OpenFileTable()
        await Threads.run(4) { _ in
            for _ in 0..<500 {
                let file = File()
                guard case .opened(let id) = table.open({ _ in file }) else { continue }
                #expect(table.file(id) === file)
                table.close(id)
                #expect(file.closes.load(ordering: .relaxed) == 1)
            }
        }
        #expect(table.all.isEmpty)
    }
}
