// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import KafkaCodec
import Testing

@Suite(.timeLimit(.minutes(3)))
struct MessageFuzzTests {
    /// Reads a message; what could be read is written and read again.
    static func exhaust<Message: KafkaMessage>(_ type: Message.Type, _ bytes: [UInt8], _ version: Int16) {
        bytes.withUnsafeBytes { raw in
            var reader = KafkaReader(raw)
            guard let message = try? Message(from: &reader, version: version) else {
                #expect(reader.fault != nil)
                return
            }
            var writer = KafkaWriter()
            message.write(to: &writer, version: version)
            #expect(writer.fault == nil, "\(type) version \(version)")
            #expect(writer.byteCount <= reader.position + 16, "\(type) version \(version) grew")
        }
    }

    static func exhaustHeader(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { raw in
            var reader = KafkaReader(raw)
            _ = try? KafkaRequestHeader(from: &reader)
        }
    }

    @Test func neverTrapsOnRandomBytes() {
        var generator = SeededGenerator(test: "messages.neverTrapsOnRandomBytes")
        for (_, type) in messageTypes.sorted(by: { $0.key < $1.key }) {
            for version in type.versions {
                for _ in 0..<60 {
                    var bytes = generator.bytes(Int.random(in: 0...160, using: &generator))
                    // Small numbers get deeper: they are lengths that fit.
                    if Bool.random(using: &generator) { bytes = bytes.map { $0 & 0x80 == 0 ? $0 & 0x03 : $0 } }
                    if Bool.random(using: &generator) { bytes = bytes.map { $0 & 0x03 } }
                    Self.exhaust(type, bytes, version)
                    Self.exhaustHeader(bytes)
                }
            }
        }
    }

    /// Flips, cuts, repeats and overwrites with numbers that are likely to hurt.
    static func mutate(_ bytes: [UInt8], _ generator: inout SeededGenerator) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<Int.random(in: 1...3, using: &generator) where !bytes.isEmpty {
            let position = Int.random(in: 0..<bytes.count, using: &generator)
            switch Int.random(in: 0...5, using: &generator) {
            case 0: bytes[position] ^= 1 << UInt8.random(in: 0...7, using: &generator)
            case 1: bytes[position] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF].randomElement(using: &generator) ?? 0
            case 2: bytes.removeLast(Int.random(in: 0...bytes.count, using: &generator))
            case 3: bytes.remove(at: position)
            case 4: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: position)
            default:
                let hurting: [[UInt8]] = [
                    [0x7F, 0xFF, 0xFF, 0xFF], [0x80, 0, 0, 0], [0xFF, 0xFF, 0xFF, 0xFF, 0x0F], [0xFF, 0xFE],
                    [0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
                ]
                let chosen = hurting.randomElement(using: &generator) ?? []
                bytes.replaceSubrange(position..<min(bytes.count, position + chosen.count), with: chosen)
            }
        }
        return bytes
    }

    @Test func neverTrapsOnMutatedMessages() throws {
        var generator = SeededGenerator(test: "messages.neverTrapsOnMutatedMessages")
        for fixture in try MessageFixture.all() {
            let type = try #require(messageTypes[fixture.type])
            // Body alone: behind the length, and what the header of a request or a response takes.
            var start = 0
            if fixture.header != nil {
                fixture.bytes.dropFirst(4).withUnsafeBytes { raw in
                    var reader = KafkaReader(raw)
                    if type is any KafkaRequest.Type {
                        _ = try? KafkaRequestHeader(from: &reader)
                    } else {
                        _ = reader.int32()
                    }
                    start = 4 + reader.position
                }
            }
            let body = Array(fixture.bytes.dropFirst(start))
            for _ in 0..<40 {
                Self.exhaust(type, Self.mutate(body, &generator), fixture.version)
                Self.exhaustHeader(Self.mutate(Array(fixture.bytes.dropFirst(4)), &generator))
            }
        }
    }

    @Test func neverTrapsOnEveryCut() throws {
        for fixture in try MessageFixture.all() where fixture.header == nil || fixture.type == "FetchRequest" {
            let type = try #require(messageTypes[fixture.type])
            for count in 0..<fixture.bytes.count {
                Self.exhaust(type, Array(fixture.bytes.prefix(count)), fixture.version)
            }
        }
    }

    /// A line of what the kernel says of this process, in bytes.
    static func status(_ name: String) -> Int? {
        let lines = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8))?.split(separator: "\n") ?? []
        let line = lines.first { $0.hasPrefix(name + ":") }
        return line?.split(whereSeparator: { !$0.isNumber }).first.flatMap { Int($0) }.map { $0 << 10 }
    }

    /// In a process of its own, since it looks at the most memory the whole process ever had.
    @Test func messagesThatLieTakeLittleMemory() async {
        await #expect(processExitsWith: .success) {
            guard let before = MessageFuzzTests.status("VmRSS") else { exit(2) }
            for (_, type) in messageTypes.sorted(by: { $0.key < $1.key }) {
                for version in type.versions {
                    for filling in [0x00, 0x01, 0x02, 0x11] as [UInt8] {
                        MessageFuzzTests.readLies(type, filling, version)
                    }
                }
            }
            guard let peak = MessageFuzzTests.status("VmHWM") else { exit(2) }
            // A failure's exit code is the figure in MiB.
            let mebibytes = (peak - before) >> 20
            if mebibytes > 64 { exit(Int32(min(mebibytes, 255))) }
        }
    }

    /// Reads 4 MiB of the same byte in which a length at some place claims as many elements as may be.
    static func readLies<Message: KafkaMessage>(_ type: Message.Type, _ filling: UInt8, _ version: Int16) {
        // 99,999, as each kind of length says it.
        let claim: [UInt8] = version >= type.flexibleFrom ? [0xA0, 0x8D, 0x06] : [0, 1, 0x86, 0x9F]
        var bytes = [UInt8](repeating: filling, count: 4 << 20)
        for position in 0..<8 {
            bytes.replaceSubrange(position..<position + claim.count, with: claim)
            exhaust(type, bytes, version)
            for index in position..<position + claim.count { bytes[index] = filling }
        }
    }
}
