// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
import MartletCore

extension PipelineManifestReader {
    static func readLinks(_ body: DocumentReader) -> [PipelineManifest.Link] {
        entries(body, "links", what: "a link", shorthand: "source").map(readLink)
    }

    private static func readLink(_ entry: DocumentReader) -> PipelineManifest.Link {
        var link = PipelineManifest.Link(
            source: ends(entry, "source", aliases: ["sources"]),
            destination: ends(entry, "destination", aliases: ["destinations"])
        )
        link.topic = resource(entry, "topic", aliases: ["topic_vrn", "topic_name"], kind: .topics, required: false)
        let config = entry.object("config", what: "the link's config")
        for case let place? in [config, entry] {
            if let retries = place.int("retries", in: 0...10) { link.retries = retries }
            if let order = place.choice("events_order", aliases: ["order"], of: ["ordered", "unordered"]) {
                link.eventsOrder = order == "ordered" ? .ordered : .unordered
            }
            for (name, value) in place.map("labels") ?? [] {
                if name.isEmpty || name.utf8.count > 128 || value.utf8.count > 1024 {
                    place.fail(
                        "labels",
                        "label '\(name.prefix(140))' is empty or too long",
                        fix: "use 1 to 128 bytes, values up to 1024"
                    )
                }
                link.labels[name] = value
            }
            if let batching = readBatching(place) { link.batching = batching }
        }
        entry.ignore("name", "guid", "id")
        return link
    }

    private static func ends(_ entry: DocumentReader, _ field: String, aliases: [String]) -> [String] {
        guard let names = entry.strings(field, aliases: aliases, required: true) else { return [] }
        if names.isEmpty {
            entry.fail(field, "no instance is named", fix: "name at least one trigger or function deployment")
        }
        guard names.count <= entriesMax else {
            entry.fail(field, "\(names.count) names", fix: "write at most \(entriesMax)")
            return []
        }
        return names.map(\.trimmed)
    }

    private static func readBatching(_ place: DocumentReader) -> PipelineManifest.Batching? {
        var size = place.int("batch_size", in: 1...10_000)
        var timeout = milliseconds(place, "batch_timeout", aliases: [])
        if let batching = place.object("batching", what: "batching") {
            size = batching.int("size", aliases: ["batch_size"], in: 1...10_000) ?? size
            timeout = milliseconds(batching, "timeout", aliases: ["batch_timeout"]) ?? timeout
            if let exact = batching.int("timeout_milliseconds", in: 1...3_600_000) { timeout = exact }
            if size == nil, timeout == nil {
                batching.fail("", "batching says neither size nor timeout", fix: "write {size: 100, timeout: 1s}")
            }
        }
        guard size != nil || timeout != nil else { return nil }
        return .init(size: size ?? 100, timeoutMilliseconds: timeout ?? 1000)
    }

    private static func milliseconds(_ place: DocumentReader, _ field: String, aliases: [String]) -> Int? {
        guard let (path, value) = place.value(field, aliases: aliases) else { return nil }
        guard let amount = DocumentQuantity.milliseconds(value), (1...3_600_000).contains(amount) else {
            let wanted = "seconds such as 2 or 0.5, or a text such as 500ms, from 1ms to 1h"
            place.fail(at: path, "\(DocumentReader.show(value)) is not a waiting time", fix: "write \(wanted)")
            return nil
        }
        return amount
    }
}
