// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Functions
import MartletCore
import Testing

struct TarArchiveTests {
    private func file(_ path: String, _ text: String = "x", executable: Bool = false) -> TarArchive.File {
        TarArchive.File(path: path, content: text.utf8, isExecutable: executable)
    }

    private func tar(_ arguments: [String]) throws -> Int32 {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/tar")
        process.arguments = arguments
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        return process.terminationStatus
    }

    private func refusal(_ bytes: [UInt8]) -> ServiceError? {
        do {
            _ = try TarArchive.read(bytes)
            return nil
        } catch {
            return error
        }
    }

    /// Writes an archive and changes the header of its only entry, checksum included.
    private func crafted(_ path: String = "a.txt", _ change: (inout [UInt8]) -> Void) throws -> [UInt8] {
        var bytes = try TarArchive.write([file(path)])
        change(&bytes)
        for index in 148..<156 { bytes[index] = 0x20 }
        let sum = bytes[..<512].reduce(0) { $0 + Int($1) }
        let digits = String(sum, radix: 8)
        let field = Array((String(repeating: "0", count: 6 - digits.count) + digits).utf8) + [0, 0x20]
        bytes.replaceSubrange(148..<156, with: field)
        return bytes
    }

    @Test func readsWhatItWritesWithNamesOfEveryLength() throws {
        let deep = Array(repeating: "folder-with-a-name", count: 12).joined(separator: "/")
        let files = [
            file("main.py", "print(1)\n"), file("bin/run.sh", "#!/bin/sh\n", executable: true), file("empty", ""),
            file("é/ü.txt", "unicode"), file(deep + "/leaf.py", "deep"),
            file(String(repeating: "n", count: 200), "long"),
            file("exact", String(repeating: "b", count: 512)),
            file("folder/" + String(repeating: "m", count: 100), "prefix"),
        ]
        let bytes = try TarArchive.write(files)
        #expect(bytes.count % 512 == 0)
        let read = try TarArchive.read(bytes)
        #expect(read == files.sorted { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) })
        #expect(try TarArchive.write(files.reversed()) == bytes)
    }

    @Test(arguments: ["ustar", "pax"]) func agreesWithTheSystemsTar(format: String) throws {
        let bench = try FunctionBench()
        let source = bench.directory + "/source"
        let deep =
            source + "/"
            + Array(repeating: "folder-with-a-name", count: format == "pax" ? 14 : 6).joined(separator: "/")
        try FileManager.default.createDirectory(atPath: deep, withIntermediateDirectories: true)
        try Data("one".utf8).write(to: URL(fileURLWithPath: source + "/one.txt"))
        try Data("two".utf8).write(to: URL(fileURLWithPath: deep + "/two.txt"))
        let made = bench.directory + "/made.tar"
        #expect(try tar(["-cf", made, "--format=\(format)", "-C", source, "."]) == 0)
        let files = try TarArchive.read(Array(try Data(contentsOf: URL(fileURLWithPath: made))))
        #expect(files.map { String(decoding: $0.content, as: UTF8.self) }.sorted() == ["one", "two"])
        #expect(files.contains { $0.path == "one.txt" })

        let ours = bench.directory + "/ours.tar"
        try Data(try TarArchive.write(files)).write(to: URL(fileURLWithPath: ours))
        let target = bench.directory + "/target"
        try FileManager.default.createDirectory(atPath: target, withIntermediateDirectories: true)
        #expect(try tar(["-xf", ours, "-C", target]) == 0)
        #expect(try tar(["-df", ours, "-C", target]) <= 1)
        for file in files {
            #expect(try Data(contentsOf: URL(fileURLWithPath: "\(target)/\(file.path)")) == Data(file.content))
        }
    }

    @Test func refusesLinksDevicesAndPipes() throws {
        for (type, word) in [(0x31, "hard link"), (0x32, "symbolic link"), (0x33, "device"), (0x36, "named pipe")] {
            let bytes = try crafted { $0[156] = UInt8(type) }
            #expect(refusal(bytes)?.message.contains(word) == true)
        }
    }

    @Test(arguments: ["/etc/passwd", "../up", "a/../b", "a//b", "a/./b", ".."]) func refusesPathsThatLeave(path: String)
        throws
    {
        let bytes = try crafted(String(repeating: "p", count: path.utf8.count)) { bytes in
            bytes.replaceSubrange(0..<path.utf8.count, with: path.utf8)
        }
        #expect(refusal(bytes)?.code == .invalid, "\(path)")
        #expect(throws: ServiceError.self) { try TarArchive.write([file(path)]) }
    }

    @Test func refusesDamage() throws {
        let good = try TarArchive.write([file("a", "text")])
        var flipped = good
        flipped[3] ^= 1
        #expect(refusal(flipped)?.message.contains("checksum") == true)
        #expect(refusal(Array(good[..<1000])) != nil)
        #expect(refusal([]) != nil)
        let long = try crafted { $0.replaceSubrange(124..<135, with: Array("77777777777".utf8)) }
        #expect(refusal(long)?.message.contains("longer than the archive") == true)
        let body = Array(good[..<1024])
        #expect(refusal(body + good)?.message.contains("twice") == true)
        let both = try TarArchive.write([file("a")])[..<1024] + TarArchive.write([file("a/b")])
        #expect(refusal(Array(both))?.message.contains("file and a directory") == true)
    }

    @Test(.timeLimit(.minutes(5))) func mutatedArchivesAreReadOrRefused() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("tar fuzz: seed \(seed)")
        var state = seed
        func next() -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33)
        }
        let original = try TarArchive.write([
            file("main.py", "x = 1"), file(String(repeating: "n", count: 180), "y"), file("d/e", "z"),
        ])
        for _ in 0..<3000 {
            var bytes = original
            for _ in 0...(next() % 3) { bytes[next() % bytes.count] = UInt8(next() & 0xFF) }
            if next() % 4 == 0 { bytes.removeLast(next() % bytes.count) }
            // Checksums would hide everything behind them.
            for block in stride(from: 0, to: bytes.count - 511, by: 512) where bytes[block + 257] == 0x75 {
                for index in 148..<156 { bytes[block + index] = 0x20 }
                let digits = String(bytes[block..<(block + 512)].reduce(0) { $0 + Int($1) }, radix: 8)
                let field = Array((String(repeating: "0", count: 6 - digits.count) + digits).utf8) + [0, 0x20]
                bytes.replaceSubrange((block + 148)..<(block + 156), with: field)
            }
            if let error = refusal(bytes) { #expect(error.code == .invalid || error.code == .tooLarge, "seed \(seed)") }
        }
    }

    @Test func packsAFolderWithoutJunk() throws {
        let bench = try FunctionBench()
        let folder = bench.directory + "/f"
        for path in [
            "main.py", "common/a.py", ".git/HEAD", "__pycache__/a.pyc", ".venv/bin/x", "common/b.pyc", "venv/y",
        ] {
            let full = URL(fileURLWithPath: "\(folder)/\(path)")
            try FileManager.default.createDirectory(
                at: full.deletingLastPathComponent(),
                withIntermediateDirectories: true
            )
            try Data(path.utf8).write(to: full)
        }
        try FileManager.default.createSymbolicLink(atPath: folder + "/link.py", withDestinationPath: "main.py")
        let files = try TarArchive.read(try FunctionFolder.archive(folder))
        #expect(files.map(\.path) == ["common/a.py", "link.py", "main.py"])
        try FileManager.default.createSymbolicLink(atPath: folder + "/outside", withDestinationPath: "/etc/hostname")
        #expect(throws: ServiceError.self) { try FunctionFolder.archive(folder) }
        #expect(throws: ServiceError.self) { try FunctionFolder.archive(folder + "/nowhere") }
    }
}
