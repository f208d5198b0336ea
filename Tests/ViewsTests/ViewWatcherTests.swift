// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Synchronization
import Testing
import Views

@Suite(.timeLimit(.minutes(5)))
struct ViewWatcherTests {
    @Test func reportsCreatedRewrittenAndRemoved() async throws {
        try await WatchedDirectory.with { directory async throws in
            try directory.write("a.txt", "one")
            #expect(try await directory.flushed() == ["created a.txt"])
            let handle = try #require(FileHandle(forWritingAtPath: "\(directory.path)/a.txt"))
            try handle.write(contentsOf: Data("two".utf8))
            try handle.close()
            #expect(try await directory.flushed() == ["created a.txt", "created a.txt"])
            try directory.remove("a.txt")
            #expect(try await directory.flushed() == ["created a.txt", "created a.txt", "removed a.txt"])
        }
    }

    /// Such times are a copy's mistake, or malice; what a file system cannot keep it brings near.
    @Test(arguments: [Int.max >> 8, 20_000_000_000, -20_000_000_000, Int.min >> 8])
    func filesOfAnyTimeAreReported(seconds: Int) async throws {
        try await WatchedDirectory.with { directory async throws in
            let path = "\(directory.path)/old.txt"
            let file = open(path, O_WRONLY | O_CREAT, 0o644)
            let times = [timespec(tv_sec: seconds, tv_nsec: 0), timespec(tv_sec: seconds, tv_nsec: 999_999_999)]
            try #require(futimens(file, times) == 0)
            close(file)
            #expect(try await directory.flushed() == ["created old.txt"])
        }
    }

    @Test func neverReportsAFileSomebodyStillWrites() async throws {
        try await WatchedDirectory.with { directory async throws in
            let path = "\(directory.path)/slow.bin"
            let first = open(path, O_WRONLY | O_CREAT, 0o644)
            let second = open(path, O_WRONLY)
            _ = write(first, "half", 4)
            close(first)
            directory.watcher.requestScan()
            #expect(try await directory.flushed() == [])
            // Longer than the delay after which new files are looked at.
            try await Task.sleep(for: .milliseconds(250))
            #expect(try await directory.flushed() == [])
            _ = write(second, "whole", 5)
            close(second)
            #expect(try await directory.flushed() == ["created slow.bin"])
        }
    }

    @Test func rewritingWithinOneTickIsReportedEachTime() async throws {
        try await WatchedDirectory.with { directory async throws in
            for round in 1...50 {
                try Data("same".utf8).withUnsafeBytes { bytes in
                    let file = open("\(directory.path)/x", O_WRONLY | O_CREAT, 0o644)
                    try #require(write(file, bytes.baseAddress, 4) == 4)
                    close(file)
                }
                #expect(try await directory.settled(round).count == round)
            }
            #expect(try await directory.flushed().count == 50)
        }
    }

    @Test func closingWithoutWritingIsNoNews() async throws {
        try await WatchedDirectory.with { directory async throws in
            try directory.write("x", "1")
            _ = try await directory.flushed()
            try await Task.sleep(for: .milliseconds(60))
            close(open("\(directory.path)/x", O_RDWR))
            // The first file may have been taken as written again while its times were fresh; an older one is not.
            close(open("\(directory.path)/x", O_RDWR))
            let seen = try await directory.flushed()
            #expect(seen.count <= 2, "\(seen)")
        }
    }

    @Test func renamesInsideAreRemovedAndCreated() async throws {
        try await WatchedDirectory.with { directory async throws in
            try directory.write("a", "1")
            _ = try await directory.flushed()
            try directory.move("a", "b")
            #expect(try await directory.flushed().suffix(2) == ["removed a", "created b"])
            try directory.makeDirectory("d/e")
            try directory.write("d/e/f", "1")
            _ = try await directory.flushed()
            try directory.move("d", "g")
            #expect(try await directory.flushed().suffix(2) == ["removed d/e/f", "created g/e/f"])
            try directory.write("g/e/h", "1")
            #expect(try await directory.flushed().last == "created g/e/h")
        }
    }

    @Test func movingOutAndInAgainIsReportedBothTimes() async throws {
        let outside = WatchedDirectory.temporaryPath()
        defer { unlink(outside) }
        try await WatchedDirectory.with { directory async throws in
            try directory.write("a", "1")
            _ = try await directory.flushed()
            rename("\(directory.path)/a", outside)
            #expect(try await directory.flushed() == ["created a", "removed a"])
            rename(outside, "\(directory.path)/a")
            #expect(try await directory.flushed() == ["created a", "removed a", "created a"])
        }
    }

    @Test func movedInTreesAndHardLinksAreCreated() async throws {
        let outside = WatchedDirectory.temporaryPath()
        try FileManager.default.createDirectory(atPath: "\(outside)/x/y", withIntermediateDirectories: true)
        for index in 0..<20 { try Data("1".utf8).write(to: URL(fileURLWithPath: "\(outside)/x/y/\(index)")) }
        try await WatchedDirectory.with { directory async throws in
            rename(outside, "\(directory.path)/in")
            #expect(Set(try await directory.flushed()) == Set((0..<20).map { "created in/x/y/\($0)" }))
            link("\(directory.path)/in/x/y/3", "\(directory.path)/link")
            #expect(try await directory.flushed().last == "created link")
        }
    }

    @Test func filesThatAreNeverClosedAfterWritingAreFound() async throws {
        try await WatchedDirectory.with { directory async throws in
            close(open("\(directory.path)/empty", O_RDONLY | O_CREAT, 0o644))
            #expect(try await directory.settled(1) == ["created empty"])
            let unnamed = open(directory.path, 0o20200000 | O_RDWR, 0o644)  // O_TMPFILE
            if unnamed >= 0 {
                _ = write(unnamed, "x", 1)
                linkat(AT_FDCWD, "/proc/self/fd/\(unnamed)", AT_FDCWD, "\(directory.path)/linked", 0x400)
                close(unnamed)
                #expect(try await directory.settled(2) == ["created empty", "created linked"])
            }
        }
    }

    @Test func symbolicLinksAndSpecialFilesAreLeftOut() async throws {
        try await WatchedDirectory.with { directory async throws in
            try directory.write("real", "1")
            symlink("real", "\(directory.path)/soft")
            symlink("/etc", "\(directory.path)/etc")
            mkfifo("\(directory.path)/pipe", 0o644)
            #expect(try await directory.flushed() == ["created real"])
        }
    }

    @Test func tagsAreExtendedAttributes() async throws {
        try await WatchedDirectory.with { directory async throws in
            try directory.write("a", "1")
            _ = try await directory.flushed()
            try directory.tag("a", "state", "raw")
            #expect(try await directory.flushed().last == "tagPut a state=raw")
            try directory.tag("a", "state", "done")
            #expect(try await directory.flushed().last == "tagPut a state=done")
            try directory.tag("a", "state", "done")
            try directory.tag("a", "state", nil)
            #expect(
                try await directory.flushed()
                    == ["created a", "tagPut a state=raw", "tagPut a state=done", "tagRemoved a state=done"]
            )
        }
    }

    @Test func changedTimesAloneAreNoNewsNowNorAfterARestart() async throws {
        try await WatchedDirectory.with { directory async throws in
            try directory.write("a", "1")
            _ = try await directory.flushed()
            var times = [timeval(tv_sec: 1_000_000_000, tv_usec: 0), timeval(tv_sec: 1_000_000_000, tv_usec: 0)]
            utimes("\(directory.path)/a", &times)
            #expect(try await directory.flushed() == ["created a"])
            try await WatchedDirectory.with(path: directory.path, known: directory.inventory) { again async throws in
                #expect(again.summary == [])
            }
        }
    }

    @Test func whatHappenedWhileNobodyWatchedIsReportedOnce() async throws {
        let path = WatchedDirectory.temporaryPath()
        let known = Mutex<[(key: String, state: ElementState)]>([])
        defer { try? FileManager.default.removeItem(atPath: path) }  // Nothing can be done about it.
        try await WatchedDirectory.with(path: path) { directory async throws in
            try directory.makeDirectory("d")
            for key in ["keep", "rewrite", "drop", "tag", "d/drop"] { try directory.write(key, "1") }
            _ = try await directory.flushed()
            known.withLock { $0 = directory.inventory }
        }
        let gone = try #require(FileHandle(forWritingAtPath: "\(path)/rewrite"))
        try gone.write(contentsOf: Data("other".utf8))
        try gone.close()
        unlink("\(path)/drop")
        try FileManager.default.removeItem(atPath: "\(path)/d")
        try Data("n".utf8).write(to: URL(fileURLWithPath: "\(path)/new"))
        _ = try ElementDirectory(root: path).tag("tag", ["k": "v"])
        try await WatchedDirectory.with(path: path, known: known.withLock { $0 }) { directory async throws in
            let wanted: Set = ["created rewrite", "removed drop", "removed d/drop", "created new", "tagPut tag k=v"]
            #expect(Set(try await directory.flushed()) == wanted)
            #expect(directory.changes.count == wanted.count + 1)
            directory.watcher.requestScan()
            #expect(try await directory.flushed().count == wanted.count)
        }
    }

    @Test func viewFailsWhenItsDirectoryGoesAndRecovers() async throws {
        let path = WatchedDirectory.temporaryPath()
        defer { try? FileManager.default.removeItem(atPath: path) }  // Nothing can be done about it.
        try await WatchedDirectory.with(path: path) { directory async throws in
            try directory.write("a", "1")
            _ = try await directory.flushed()
            rename(path, path + "-away")
            try await directory.wait { $0.state == .failed }
            #expect(directory.status?.reason?.contains(path) == true)
            #expect(directory.summary.filter { $0.contains(" a") } == ["created a"])
            rename(path + "-away", path)
            try await directory.wait { $0.state == .ready }
            try directory.write("b", "1")
            #expect(try await directory.flushed() == ["created a", "created b"])
        }
    }

    @Test func directoriesBeyondTheWatchLimitAreScanned() async throws {
        var settings = WatchedDirectory.fastSettings
        settings.watchesMax = 2
        try await WatchedDirectory.with(settings: settings) { directory async throws in
            for name in ["a", "b", "c"] { try directory.makeDirectory(name) }
            try await directory.wait { $0.reason?.contains("sysctl -w fs.inotify.max_user_watches") == true }
            for name in ["a", "b", "c"] { try directory.write("\(name)/x", "1") }
            #expect(Set(try await directory.settled(3)) == ["created a/x", "created b/x", "created c/x"])
            #expect(try await directory.flushed().count == 3)
        }
    }

    @Test func namesThatAreNotUTF8AreLeftOutWithAReason() async throws {
        try await WatchedDirectory.with { directory async throws in
            let bad: [CChar] = (Array("\(directory.path)/".utf8) + [0xFF, 0x78, 0]).map { CChar(bitPattern: $0) }
            close(open(bad, O_WRONLY | O_CREAT, 0o644))
            directory.watcher.requestScan()
            try directory.write("good", "1")
            try await directory.wait { $0.reason?.contains("UTF-8") == true }
            #expect(try await directory.flushed() == ["created good"])
        }
    }

    @Test func newDirectoriesAreWatchedWithoutAGap() async throws {
        try await WatchedDirectory.with { directory async throws in
            var wanted: Set<String> = []
            for outer in 0..<40 {
                try directory.makeDirectory("\(outer)/a/b/c")
                for place in ["a", "a/b", "a/b/c"] {
                    try directory.write("\(outer)/\(place)/f", "1")
                    wanted.insert("created \(outer)/\(place)/f")
                }
            }
            let seen = try await directory.flushed()
            let all = try await directory.settled(wanted.count + 1).filter { !$0.contains("flush-") }
            #expect(Set(all) == wanted)
            #expect(all.count == wanted.count, "\(seen.count)")
        }
    }
}
