// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore
import Testing
import Workers

@Suite struct ResultLineTests {
    private static let samples = [
        #"{"results":[[3,"ok",1763712000000000,41]]}"#,
        #"{"results":[[0,"error",5,6,null,{"type":"ValueError","message":"no","traceback":"t"},{"attributes":{"a":1}}]]}"#,
        #"{"results":[[1,"ok",5,6,[{"data":{"a":[1,"x"]},"labels":{"tier":"hot"},"attributes":{"id":"7"}},{"data_base64":"AAEC"}]]]}"#,
        #"{"running":[[0,210],[3,12]]}"#, #"{"running":[]}"#,
    ]

    private func parse(_ text: some Collection<UInt8>, count: Int = 4) throws -> ResultLine {
        try Array(text).withUnsafeBytes { try ResultLine.parse($0, count: count) }
    }

    private func results(_ text: String) throws -> [InvocationResult] {
        guard case .results(let results) = try parse(text.utf8) else { return [] }
        return results
    }

    @Test func readsEveryFormOfAResult() throws {
        let short = try #require(try results(Self.samples[0]).first)
        #expect(short.index == 3)
        #expect(short.status == .ok)
        #expect(short.durationMicros == 41)
        let failed = try #require(try results(Self.samples[1]).first)
        #expect(failed.failure == .init(type: "ValueError", message: "no", traceback: "t"))
        #expect(failed.span?["attributes"]?["a"]?.intValue == 1)
        let outputs = try #require(try results(Self.samples[2]).first).outputs
        #expect(outputs.map(\.data) == [Array(#"{"a":[1,"x"]}"#.utf8), [0, 1, 2]])
        #expect(outputs.map(\.isJSON) == [true, false])
        #expect(outputs[0].labels.map(\.value) == ["hot"])
        guard case .running(let running) = try parse(Self.samples[3].utf8) else {
            Issue.record("no running line")
            return
        }
        #expect(running.map(\.index) == [0, 3])
        #expect(running.map(\.milliseconds) == [210, 12])
    }

    @Test(arguments: [
        "", "{}", "[]", #"{"other":1}"#, #"{"results":[[4,"ok",1,1]]}"#, #"{"results":[[-1,"ok",1,1]]}"#,
        #"{"results":[[0,"maybe",1,1]]}"#, #"{"results":[[0,"ok"]]}"#, #"{"results":[[0,"ok",1,1,null,null,null,1]]}"#,
        #"{"running":[[0]]}"#, #"{"running":[[0,1,2]]}"#, #"{"running":[],"results":[]}"#,
        #"{"results":[[0,"ok",9223372036854775807,9223372036854775807]]}"#, #"{"results":[[0,"ok",1,-5]]}"#,
        #"{"results":[[0,"ok",1,1,[{"data_base64":"*"}]]]}"#, #"{"running":[]} x"#,
    ]) func refusesWhatIsNotTheProtocol(_ text: String) {
        #expect(throws: (any Error).self) { try parse(text.utf8) }
    }

    @Test func damagedLinesNeverTrap() {
        let seed = UInt64.random(in: 1 ... .max)
        print("result lines: seed \(seed)")
        var state = seed
        func random(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % bound
        }
        let tokens = ["[", "]", "{", "}", ",", "null", "-1", "99999999999999999999", "\"", "\\u", "1e400", ":"]
        for _ in 0..<20_000 {
            var bytes = Array(Self.samples[random(Self.samples.count)].utf8)
            for _ in 0...random(3) where !bytes.isEmpty {
                let place = random(bytes.count)
                switch random(4) {
                case 0: bytes[place] = UInt8(random(256))
                case 1: bytes.remove(at: place)
                case 2: bytes.removeSubrange(place...)
                default: bytes.insert(contentsOf: tokens[random(tokens.count)].utf8, at: place)
                }
            }
            if case .results(let results)? = try? parse(bytes) {
                #expect(results.allSatisfy { (0..<4).contains($0.index) }, "seed \(seed)")
            }
        }
    }
}
