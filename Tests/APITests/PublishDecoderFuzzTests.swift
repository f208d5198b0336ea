// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import GRPCAPI
import GRPCCore
import MartletProto
import SwiftProtobuf
import Testing

/// The decoder that publishing uses, on bytes that are no request or nearly one; SwiftProtobuf reads the same bytes.
@Suite(.timeLimit(.minutes(3))) struct PublishDecoderFuzzTests {
    static let shapes: [PublishDeserializer.Shape] = [.one, .batch, .stream]

    @Test(arguments: shapes) func whatClientsSendIsReadAsSwiftProtobufReadsIt(_ shape: PublishDeserializer.Shape) throws
    {
        var making = RequestMaking(test: "whatClientsSendIsReadAsSwiftProtobufReadsIt", shape)
        var comparison = PublishComparison(shape)
        for _ in 0..<3000 {
            let bytes = making.request()
            comparison.compare(bytes)
        }
        #expect(comparison.faults.prefix(3) == [])
        #expect(comparison.bothRefused == 0 && comparison.onlyOneRead == 0)
        #expect(comparison.recordsAlike > 2500, "\(comparison.recordsAlike) records were compared")
        #expect(comparison.refusedRecords == 0, "a sound event was refused")
    }

    @Test(arguments: shapes) func whatWasChangedOnTheWayIsReadAlikeOrRefused(_ shape: PublishDeserializer.Shape) throws
    {
        var making = RequestMaking(test: "whatWasChangedOnTheWayIsReadAlikeOrRefused", shape)
        var comparison = PublishComparison(shape)
        for _ in 0..<20_000 {
            let bytes = making.mutated(making.request())
            comparison.compare(bytes)
        }
        #expect(comparison.faults.prefix(3) == [])
        #expect(comparison.recordsAlike > 1000, "\(comparison.recordsAlike) records were compared")
        #expect(comparison.refusedRecords > 100 && comparison.bothRefused > 1000, "\(comparison) is too tame")
    }

    @Test(arguments: shapes) func everyCutIsReadAlikeOrRefused(_ shape: PublishDeserializer.Shape) throws {
        var making = RequestMaking(test: "everyCutIsReadAlikeOrRefused", shape)
        var comparison = PublishComparison(shape)
        for _ in 0..<20 {
            let bytes = making.request()
            for count in 0...bytes.count { comparison.compare(Array(bytes.prefix(count))) }
        }
        #expect(comparison.faults.prefix(3) == [])
        #expect(comparison.bothRefused > 100)
    }

    @Test(arguments: shapes) func randomBytesAreReadAlikeOrRefused(_ shape: PublishDeserializer.Shape) throws {
        var making = RequestMaking(test: "randomBytesAreReadAlikeOrRefused", shape)
        var comparison = PublishComparison(shape)
        for _ in 0..<30_000 {
            let bytes = making.noise()
            comparison.compare(bytes)
        }
        #expect(comparison.faults.prefix(3) == [])
    }

    /// In a process of its own, since it looks at the most memory the whole process ever had.
    @Test func messagesThatLieTakeLittleMemory() async {
        await #expect(processExitsWith: .success) {
            PublishDecoderFuzzTests.exitWithMemory(of: PublishDecoderFuzzTests.lies)
        }
    }

    @Test func messagesWithVeryManyEventsTakeLittleMemory() async {
        await #expect(processExitsWith: .success) {
            PublishDecoderFuzzTests.exitWithMemory { event in [([], [event, 0])] }
        }
    }

    /// One event that has nothing but a million empty extensions or headers.
    @Test func eventsWithVeryManyFieldsTakeLittleMemory() async {
        await #expect(processExitsWith: .success) {
            PublishDecoderFuzzTests.exitWithMemory { event in
                [0x42, 0x4A].map { (PublishDecoderFuzzTests.wholeEvent(event) + [0x0A, 1, 0x61], [$0, 0]) }
            }
        }
    }

    /// Beginnings whose lengths claim what is not there, with zeros behind.
    static func lies(_ event: UInt8) -> [(start: [UInt8], filling: [UInt8])] {
        let claims: [[UInt8]] = [
            [0xFF, 0xFF, 0xFF, 0xFF, 0x07], [0x80, 0x80, 0x80, 0x80, 0x10], [0xFF, 0xFF, 0xFF, 0x07],
            [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
        ]
        return claims.flatMap { claim in
            [([event] + claim, [0]), (wholeEvent(event) + [0x5A] + claim, [0])]
        }
    }

    /// The beginning of an event that takes all that is left of 4 MiB, an odd number of bytes.
    static func wholeEvent(_ event: UInt8) -> [UInt8] { [event, 0xFB, 0xFF, 0xFF, 0x01] }

    /// Decodes messages of 4 MiB, a start and then a filling again and again; exits with what that took in MiB where it is too much.
    static func exitWithMemory(of messages: (UInt8) -> [(start: [UInt8], filling: [UInt8])]) {
        var bytes = [UInt8](repeating: 1, count: 4 << 20)
        guard let before = status("VmRSS") else { exit(2) }
        for shape in shapes {
            let deserializer = PublishDeserializer(shape: shape)
            for (start, filling) in messages((shape == .stream ? 3 : 2) << 3 | 2) {
                bytes.replaceSubrange(0..<start.count, with: start)
                for index in start.count..<bytes.count { bytes[index] = filling[(index - start.count) % filling.count] }
                _ = try? deserializer.deserialize(bytes)
            }
        }
        guard let peak = status("VmHWM") else { exit(2) }
        let mebibytes = (peak - before) >> 20
        if mebibytes > 24 { exit(Int32(min(mebibytes, 255))) }
    }

    /// A line of what the kernel says of this process, in bytes.
    static func status(_ name: String) -> Int? {
        let lines = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8))?.split(separator: "\n") ?? []
        let line = lines.first { $0.hasPrefix(name + ":") }
        return line?.split(whereSeparator: { !$0.isNumber }).first.flatMap { Int($0) }.map { $0 << 10 }
    }
}
