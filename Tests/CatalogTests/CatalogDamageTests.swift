// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Foundation
import MartletCore
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(5)))
struct CatalogDamageTests {
    private static let files = ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-mark"]

    /// A catalog with ten topics as a killed process leaves it: the first few in the main file, the others in the write-ahead log.
    private static func killed() async throws -> CatalogFixture.Copy {
        let fixture = try CatalogFixture()
        for index in 0..<5 { try await fixture.topic("topic-\(index)") }
        try fixture.catalog.close()
        let again = try Catalog.open(path: fixture.path)
        for index in 5..<10 {
            _ = try await again.topics.create(
                name: "topic-\(index)",
                owner: CatalogFixture.owner,
                spec: TopicSpec(partitions: 1)
            )
        }
        let copy = try CatalogFixture.Copy(of: fixture.directory, Self.files)
        try again.close()
        return copy
    }

    private func refusal(_ path: String) -> CatalogError? {
        do {
            try Catalog.open(path: path).close()
            return nil
        } catch {
            return error as? CatalogError
        }
    }

    private func names(_ path: String) async throws -> [String] {
        let catalog = try Catalog.open(path: path)
        let names = try await catalog.topics.all().map(\.name)
        #expect(catalog.troubles() == [])
        try catalog.close()
        return names
    }

    private static let everything = (0..<10).map { "topic-\($0)" }

    @Test func opensWhatAKilledProcessLeaves() async throws {
        let copy = try await Self.killed()
        #expect(try copy.bytes("catalog.sqlite-wal").count > 4096)
        #expect(try await names(copy.path) == Self.everything)
        #expect(try await names(copy.path) == Self.everything)
    }

    @Test func cutsACommitThatACrashKeptFromEnding() async throws {
        let copy = try await Self.killed()
        let log = try copy.bytes("catalog.sqlite-wal")
        // Frames of a transaction whose last one, with the mark of the commit, was not written: of the right generation, and of none.
        for tail in [Array(log[32..<3000]), [UInt8](repeating: 7, count: 5000)] {
            let crashed = try CatalogFixture.Copy(of: copy.directory, Self.files)
            try crashed.write(log + tail, to: "catalog.sqlite-wal")
            #expect(try await names(crashed.path) == Self.everything)
        }
    }

    @Test(arguments: ["catalog.sqlite", "catalog.sqlite-wal"])
    func refusesEveryChangedByte(_ file: String) async throws {
        let whole = try await Self.killed()
        let bytes = try whole.bytes(file)
        for step in 0..<60 {
            let copy = try CatalogFixture.Copy(of: whole.directory, Self.files)
            var changed = bytes
            let at = (bytes.count - 1) * step / 59
            changed[at] ^= 0x10
            try copy.write(changed, to: file)
            guard let error = refusal(copy.path) else {
                // Bytes that nobody reads: the sequence number of the write-ahead log, for one.
                #expect(try await names(copy.path) == Self.everything, "byte \(at)")
                continue
            }
            #expect(error.code == .damaged, "byte \(at)")
            #expect(error.fix.contains("backup"), "byte \(at)")
            for kept in Self.files where kept != file {
                #expect(try copy.bytes(kept) == whole.bytes(kept), "\(kept) after a refusal, byte \(at)")
            }
            #expect(try copy.bytes(file) == changed)
        }
    }

    @Test(arguments: ["catalog.sqlite", "catalog.sqlite-wal"])
    func refusesAShorterFile(_ file: String) async throws {
        let whole = try await Self.killed()
        let bytes = try whole.bytes(file)
        for step in 0..<40 {
            let copy = try CatalogFixture.Copy(of: whole.directory, Self.files)
            try copy.write(Array(bytes[..<(bytes.count * step / 40)]), to: file)
            #expect(refusal(copy.path)?.code == .damaged, "\(bytes.count * step / 40) bytes")
        }
    }

    @Test(arguments: ["catalog.sqlite", "catalog.sqlite-wal"])
    func refusesThatAFileIsMissing(_ file: String) async throws {
        let copy = try await Self.killed()
        try copy.remove(file)
        let error = try #require(refusal(copy.path))
        #expect(error.code == .damaged && error.message.contains("missing"))
        #expect(!FileManager.default.fileExists(atPath: copy.directory + "/" + file) || file.hasSuffix("-wal"))
    }

    @Test func aMarkThatCannotBeWrittenWhenClosingCostsNothing() async throws {
        let copy = try await Self.killed()
        let catalog = try Catalog.open(path: copy.path)
        _ = try await catalog.topics.create(
            name: "last",
            owner: CatalogFixture.owner,
            spec: TopicSpec(partitions: 1)
        )
        // What the catalog writes its mark through is made one that cannot be written through.
        let mark = copy.path + "-mark"
        let unwritable = open(mark, O_RDONLY)
        for name in try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd") {
            let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(name)")
            if target == mark, let number = Int32(name), number != unwritable { dup2(unwritable, number) }
        }
        close(unwritable)
        try catalog.close()
        #expect(catalog.troubles().map(\.path).contains(mark))
        #expect(try await names(copy.path) == Self.everything + ["last"])
    }

    @Test func refusesAnOlderFileBesideANewerMark() async throws {
        let fixture = try CatalogFixture()
        try await fixture.topic("a")
        try fixture.catalog.close()
        let older = try CatalogFixture.Copy(of: fixture.directory, ["catalog.sqlite"])
        let again = try Catalog.open(path: fixture.path)
        _ = try await again.topics.create(name: "b", owner: CatalogFixture.owner, spec: TopicSpec(partitions: 1))
        try again.close()
        let newer = try CatalogFixture.Copy(of: fixture.directory, Self.files)
        try newer.write(older.bytes("catalog.sqlite"), to: "catalog.sqlite")
        let error = try #require(refusal(newer.path))
        #expect(error.message.contains("commit"))
    }

    @Test func startsWithWhatIsThereOnceTheMarkIsRemovedAndSaysSo() async throws {
        let copy = try await Self.killed()
        try copy.remove("catalog.sqlite-wal")
        #expect(refusal(copy.path) != nil)
        try copy.remove("catalog.sqlite-mark")
        let told = Mutex<[CatalogError]>([])
        let catalog = try Catalog.open(path: copy.path, onTrouble: { error in told.withLock { $0.append(error) } })
        #expect(try await catalog.topics.all().map(\.name) == Array(Self.everything[..<5]))
        #expect(catalog.troubles().map(\.path) == [copy.path + "-mark"])
        #expect(told.withLock { $0 } == catalog.troubles())
        try catalog.close()
        #expect(try await names(copy.path) == Array(Self.everything[..<5]))
    }

    @Test func saysThatAMarkIsUnreadable() async throws {
        for content in [[], [UInt8](repeating: 0x5A, count: 8192)] as [[UInt8]] {
            let copy = try await Self.killed()
            try copy.write(content, to: "catalog.sqlite-mark")
            let catalog = try Catalog.open(path: copy.path)
            #expect(try await catalog.topics.all().map(\.name) == Self.everything)
            #expect(catalog.troubles().count == 1)
            try catalog.close()
        }
    }

    @Test func everyChangedByteOfTheMarkLeavesTheCatalogUsable() async throws {
        let whole = try await Self.killed()
        let bytes = try whole.bytes("catalog.sqlite-mark")
        for at in Array(0..<110) + Array(4096..<4206) {
            let copy = try CatalogFixture.Copy(of: whole.directory, Self.files)
            var changed = bytes
            changed[at] ^= 0x41
            try copy.write(changed, to: "catalog.sqlite-mark")
            #expect(try await names(copy.path) == Self.everything, "byte \(at)")
        }
    }

    @Test func movesTheLogIntoTheFileWhileItWorksAndStaysWhole() async throws {
        let fixture = try CatalogFixture()
        for index in 0..<600 { try await fixture.catalog.state.set("key-\(index % 50)", "\(index)") }
        let size = try FileManager.default.attributesOfItem(atPath: fixture.path)[.size] as? Int ?? 0
        #expect(size > 8192)
        let copy = try CatalogFixture.Copy(of: fixture.directory, Self.files)
        #expect(try copy.bytes("catalog.sqlite-wal").count < 16 << 20)
        let catalog = try Catalog.open(path: copy.path)
        #expect(try await catalog.state.get("key-49") == "599")
        try catalog.close()
    }

    @Test func whatIsDroppedWithoutClosingCanBeOpened() async throws {
        let copy = try await Self.killed()
        do {
            let catalog = try Catalog.open(path: copy.path)
            try await catalog.state.set("a", "b")
        }
        #expect(try await names(copy.path) == Self.everything)
    }
}

extension CatalogFixture {
    /// Files of a catalog as they lie there, which is what a killed process leaves behind.
    final class Copy: Sendable {
        let directory: String

        var path: String { directory + "/catalog.sqlite" }

        init(of source: String, _ names: [String]) throws {
            directory =
                FileManager.default.temporaryDirectory.appendingPathComponent("martlet-catalog-\(UUID().uuidString)")
                .path
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
            for name in names where FileManager.default.fileExists(atPath: "\(source)/\(name)") {
                try FileManager.default.copyItem(atPath: "\(source)/\(name)", toPath: "\(directory)/\(name)")
            }
        }

        deinit {
            try? FileManager.default.removeItem(atPath: directory)  // Only a leftover in the temporary folder.
        }

        func bytes(_ name: String) throws -> [UInt8] {
            Array(try Data(contentsOf: URL(fileURLWithPath: "\(directory)/\(name)")))
        }

        func write(_ bytes: [UInt8], to name: String) throws {
            try Data(bytes).write(to: URL(fileURLWithPath: "\(directory)/\(name)"))
        }

        func remove(_ name: String) throws {
            try FileManager.default.removeItem(atPath: "\(directory)/\(name)")
        }
    }
}
