// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// Writes records to standard output.
struct RecordPrinter {
    private let client: EngineClient
    private let topic: String
    private let format: RecordFormat?

    init(_ client: EngineClient, topic: String, format: RecordFormat?) {
        self.client = client
        self.topic = topic
        self.format = format
    }

    func print(_ records: [JSONValue]) throws {
        var bytes: [UInt8] = []
        for record in records {
            if let format {
                format.append(record, topic: topic, to: &bytes)
                continue
            }
            switch client.settings.format {
            case .json: bytes += record.bytes + [0x0A]
            case .yaml: bytes += try Array(("---\n" + YAMLText.write(record)).utf8)
            case .human, .csv: bytes += (RecordText.bytes("value", of: record) ?? []) + [0x0A]
            }
        }
        if !bytes.isEmpty { try client.session.output.write(bytes) }
    }
}
