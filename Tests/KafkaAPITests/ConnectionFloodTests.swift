// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaAPI
import KafkaCodec
import Testing

@Suite struct ConnectionFloodTests {
    /// More connections than there may be, all silent; each new client is served, and so are those that wait for an answer.
    @Test(.timeLimit(.minutes(5))) func silentConnectionsKeepNobodyOut() async throws {
        try await DoorStand.with { configuration in
            configuration.connectionsMax = 4
        } _: { stand in
            try await stand.makeTopic("t", messageBytesMax: 1 << 20)
            let patient = try await stand.connect()
            _ = try await patient.ask(MetadataRequest(topics: []), version: 9)
            try await patient.send(Requests.fetch("t", wait: 300_000), version: 11)
            var silent: [Wire] = []
            for _ in 0..<12 { silent.append(try await stand.connect()) }
            for _ in 0..<3 {
                let wire = try await stand.connect()
                #expect(try await wire.ask(MetadataRequest(topics: nil), version: 9).topics.count == 1)
            }
            #expect(!patient.isClosed)
            try await stand.expectProduced("t", bytes: 10)
            let answer = try await patient.answer(to: FetchRequest.self, version: 11)
            #expect(answer.responses[0].partitions[0].records?.byteCount ?? 0 > 0)
            // Nothing was ever sent on them, so nothing comes but the end.
            for wire in silent.prefix(9) { #expect(await wire.answer() == nil) }
        }
    }

    @Test(.timeLimit(.minutes(5))) func thoseThatAreServedAreNotGivenUp() async throws {
        try await DoorStand.with { configuration in
            configuration.connectionsMax = 2
        } _: { stand in
            try await stand.makeTopic("t", messageBytesMax: 1 << 20)
            var patient: [Wire] = []
            for number in 0..<2 {
                let wire = try await stand.connect()
                _ = try await wire.ask(MetadataRequest(topics: []), version: 9)
                try await wire.send(Requests.fetch("t", wait: number == 0 ? 300_000 : 2000), version: 11)
                patient.append(wire)
            }
            // The second is answered and rests; until then nobody else is let in.
            _ = try await patient[1].answer(to: FetchRequest.self, version: 11)
            let wire = try await stand.connect()
            #expect(try await wire.ask(MetadataRequest(topics: nil), version: 9).topics.count == 1)
            #expect(await patient[1].answer() == nil)
            #expect(!patient[0].isClosed)
        }
    }
}
