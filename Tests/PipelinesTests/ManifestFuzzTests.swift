// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
import Foundation
import MartletCore
import Pipelines
import Testing

struct ManifestFuzzTests {
    /// SplitMix64, so that a printed seed repeats a run.
    private struct Random: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var mixed = state
            mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
            return mixed ^ (mixed >> 31)
        }
    }

    private static let tokens = [
        "null", "[]", "{}", "-1", "1e400", "99999999999999999999", "''", "\"\\u0000\"", "&a", "*a", "<<: *a", "!!int x",
        "? ",
        "- ", ": ", "\n", "\t", "---\n", "name:", "source: []", "vast:dataengine:functions:", "é", "\u{FEFF}", "#",
        "|\n", "%",
        "0x7fffffffffffffff", "-9223372036854775808", "9223372036854775807", "1Ti", "m", "current", ".nan", "-.inf",
    ]

    /// MARTLET_FUZZ_SEED repeats a run; MARTLET_FUZZ_ROUNDS makes it longer.
    @Test(.timeLimit(.minutes(5))) func mutatedManifestsAreReadOrRefusedAndNeverTrap() throws {
        let environment = ProcessInfo.processInfo.environment
        let seed = environment["MARTLET_FUZZ_SEED"].flatMap(UInt64.init) ?? UInt64.random(in: 0...UInt64.max)
        let rounds = environment["MARTLET_FUZZ_ROUNDS"].flatMap { Int($0) } ?? 4000
        print("manifest fuzz: MARTLET_FUZZ_SEED=\(seed), \(rounds) rounds")
        var random = Random(state: seed)
        let originals = try ManifestFixtures.names().map { try ManifestFixtures.bytes($0) }
        var accepted = 0
        for round in 0..<rounds {
            guard var bytes = originals.randomElement(using: &random) else { break }
            for _ in 0..<Int.random(in: 1...6, using: &random) { mutate(&bytes, originals, &random) }
            do {
                let document = try DocumentParser.parse(bytes, contentType: nil)
                let read = try PipelineManifestReader.read(document)
                accepted += 1
                let text = PipelineManifestWriter.yaml(
                    name: read.name,
                    description: read.description,
                    tags: read.tags,
                    manifest: read.manifest
                )
                let again = try PipelineManifestReader.read(
                    try DocumentParser.parse(text, contentType: "application/yaml")
                )
                #expect(again.manifest == read.manifest, "seed \(seed) round \(round):\n\(text)")
                #expect(again.description == read.description, "seed \(seed) round \(round):\n\(text)")
                #expect(again.tags == read.tags, "seed \(seed) round \(round):\n\(text)")
            } catch {
                #expect(error.code == .invalid || error.code == .tooLarge, "seed \(seed) round \(round): \(error)")
                #expect(!error.message.isEmpty)
            }
        }
        #expect(accepted > rounds / 100, "too few mutations were accepted to mean anything: \(accepted)")
    }

    private func mutate(_ bytes: inout [UInt8], _ originals: [[UInt8]], _ random: inout Random) {
        let place = Int.random(in: 0...bytes.count, using: &random)
        switch Int.random(in: 0..<7, using: &random) {
        case 0: if place < bytes.count { bytes[place] = UInt8.random(in: 0...255, using: &random) }
        case 1: if place < bytes.count { bytes.remove(at: place) }
        case 2: bytes.removeSubrange(place..<min(bytes.count, place + Int.random(in: 0...40, using: &random)))
        case 3: bytes.insert(contentsOf: (Self.tokens.randomElement(using: &random) ?? "").utf8, at: place)
        case 4:
            let end = min(bytes.count, place + Int.random(in: 0...200, using: &random))
            bytes.insert(contentsOf: bytes[place..<end], at: Int.random(in: 0...bytes.count, using: &random))
        case 5:
            let other = originals.randomElement(using: &random) ?? []
            let start = Int.random(in: 0...other.count, using: &random)
            bytes.insert(contentsOf: other[start..<min(other.count, start + 120)], at: place)
        default:
            // Numbers are where bounds are: digits change more often than their share of the text.
            let digits = bytes.indices.filter { (0x30...0x39).contains(bytes[$0]) }
            if let digit = digits.randomElement(using: &random) {
                bytes[digit] = UInt8.random(in: 0x2D...0x39, using: &random)
            }
        }
    }
}
