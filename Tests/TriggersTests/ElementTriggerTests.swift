// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Foundation
import KafkaCodec
import MartletCore
import Testing
import Triggers

@Suite(.timeLimit(.minutes(5)))
struct ElementTriggerTests {
    private static let element = """
        {"name":"e","type":"Element","source_bucket":"v","events":["ObjectCreated:*","ObjectRemoved:*","ElementTagCreated",
        "ElementTagDeleted"],"topic":"t","custom_extensions":{"team":"red"}}
        """

    @Test func eventsHaveTheFormOfTheReference() async throws {
        try await Engine.with { engine async throws in
            try await engine.makeView()
            let trigger = try await engine.makeTrigger(Self.element)
            try engine.write("dir/a b.txt", "hello")
            let event = try #require(try await engine.events(atLeast: 1).first)
            #expect(Int64(event.id) ?? 0 > 0)
            #expect(event.source == "vastdata.com:e.\(trigger.guid)")
            #expect(event.type == "vastdata.com:Element.ElementCreated")
            #expect(event.subject == "martlet.t")
            #expect(event.dataContentType == "application/json")
            #expect(event[extension: "elementpath"] == "v/dir/a b.txt")
            #expect(event[extension: "elementsourcetype"] == "martlet:file")
            #expect(event[extension: "elementurl"] == "file://\(engine.viewPath)/dir/a%20b.txt")
            #expect(event[extension: "team"] == "red")
            let record = try JSONValue(parsing: event.data ?? [])["Records"]?.arrayValue?.first
            #expect(record?["eventName"]?.stringValue == "ObjectCreated:Put")
            let object = record?["s3"]?["object"]
            #expect(object?["key"]?.stringValue == "dir/a%20b.txt")
            #expect(object?["size"]?.intValue == 5)
            try await eventually { !engine.spans.all.isEmpty }
            let span = try #require(engine.spans.all.first)
            #expect(event[extension: "traceparent"] == "00-\(span.traceId)-\(span.spanId)-01")
            #expect(span.eventId == event.id)
            _ = try await engine.views.tag("v", key: "dir/a b.txt", tags: ["k": "v"])
            try await engine.events(atLeast: 2)
            _ = try await engine.views.untag("v", key: "dir/a b.txt", names: ["k"])
            try await engine.events(atLeast: 3)
            try FileManager.default.removeItem(atPath: "\(engine.viewPath)/dir/a b.txt")
            let all = try await engine.events(atLeast: 4)
            #expect(
                all.map { $0.type.split(separator: ".").last }
                    == ["ElementCreated", "ElementTagCreated", "ElementTagDeleted", "ElementDeleted"]
            )
            #expect(Set(all.map(\.id)).count == 4)
        }
    }

    @Test func filtersByNameTagAndEvent() async throws {
        try await Engine.with { engine async throws in
            try await engine.makeView()
            try await engine.makeTrigger(
                """
                {"name":"e","type":"element","view":"v","event":"ObjectCreated:Put","topic_name":"t",
                 "config":{"name_filters":{"prefixes":["in/","also/"],"suffixes":[".txt",".md"]}}}
                """
            )
            try await engine.makeTopic("u")
            try await engine.makeTrigger(
                """
                {"name":"f","type":"Element","source_bucket_name":"v","events":["ObjectTagging:Put"],"topic":"u",
                 "tag_prefix":"state=","tag_suffix":"done"}
                """
            )
            for key in ["in/a.txt", "in/b.png", "inside/c.txt", "also/d.md", "e.txt"] { try engine.write(key) }
            for state in ["raw", "done"] { _ = try await engine.views.tag("v", key: "e.txt", tags: ["state": state]) }
            try engine.write("in/last.txt")
            let paths = try await engine.events(atLeast: 3).compactMap { $0[extension: "elementpath"] }
            #expect(Set(paths) == ["v/in/a.txt", "v/also/d.md", "v/in/last.txt"])
            try await eventually { try await engine.events("u").count >= 1 }
            #expect(try await engine.events("u").count == 1)
        }
    }

    @Test func whatWasThereBeforeTheTriggerIsNoNews() async throws {
        try await Engine.with { engine async throws in
            try engine.write("old")
            try await Task.sleep(for: .milliseconds(60))
            try await engine.makeView()
            try await engine.makeTrigger(Self.element)
            try engine.write("new")
            #expect(try await engine.events(atLeast: 1).map { $0[extension: "elementpath"] } == ["v/new"])
        }
    }

    @Test func downtimeIsCaughtUpOnceAndRestartsRepeatNothing() async throws {
        let directory = Engine.temporaryPath()
        defer { try? FileManager.default.removeItem(atPath: directory) }  // Nothing can be done about it.
        try await Engine.with(directory: directory) { engine async throws in
            try await engine.makeView()
            try await engine.makeTrigger(Self.element)
            try engine.write("a")
            try engine.write("b")
            try await engine.events(atLeast: 2)
        }
        try Data("c".utf8).write(to: URL(fileURLWithPath: "\(directory)/view/c"))
        try FileManager.default.removeItem(atPath: "\(directory)/view/b")
        for _ in 0..<2 {
            try await Engine.with(directory: directory) { engine async throws in
                try await engine.waitForView()
                let found = try await engine.events(atLeast: 4)
                #expect(found.count == 4)
            }
        }
    }

    @Test func updatedAndDeletedTriggersTakeEffectAtOnce() async throws {
        try await Engine.with { engine async throws in
            try await engine.makeView()
            try await engine.makeTrigger(Self.element)
            try await engine.makeTopic("u")
            try engine.write("a")
            try await engine.events(atLeast: 1)
            let change = Document(value: try JSONValue(parsing: #"{"topic":"u","name_suffix":".txt"}"#))
            _ = try await engine.triggers.update("e", change, by: Engine.caller, dryRun: false)
            try engine.write("b")
            try engine.write("c.txt")
            #expect(try await engine.events(atLeast: 1, "u").map { $0[extension: "elementpath"] } == ["v/c.txt"])
            #expect(try await engine.events().count == 1)
            try await engine.triggers.delete("e", by: Engine.caller)
            try engine.write("d.txt")
            try await engine.views.delete("v", by: Engine.caller)
            #expect(try await engine.events("u").count == 1)
        }
    }

    @Test func recordsCarryEventsAndBack() throws {
        let event = CloudEvent(
            id: "1",
            source: "s",
            type: "t",
            subject: "x.y",
            time: "2026-01-01T00:00:00Z",
            dataContentType: "application/json",
            dataSchema: "urn:x",
            extensions: [.init("elementpath", "v/ä"), .init("b", "2")],
            data: Array("{}".utf8)
        )
        let bytes = RecordBatchEncoder.encode([Record(event: event, key: Array("k".utf8), timestamp: 7)])
        let record = try #require(try RecordBatches.records(in: bytes).first)
        #expect(try CloudEvent(record: record) == event)
        let structured = #"{"specversion":"1.0","id":"1","source":"s","type":"t","n":5,"data":{"a":1}}"#
        let other = RecordBatchEncoder.encode([
            Record(
                timestamp: 0,
                value: Array(structured.utf8),
                headers: [.init(key: "content-type", string: "application/cloudevents+json; charset=utf-8")]
            )
        ])
        let read = try CloudEvent(record: try #require(try RecordBatches.records(in: other).first))
        #expect(read.data.map { String(decoding: $0, as: UTF8.self) } == #"{"a":1}"#)
        #expect(read[extension: "n"] == "5")
        let bare = RecordBatchEncoder.encode([Record(timestamp: 0, value: [1])])
        let bareRecord = try #require(try RecordBatches.records(in: bare).first)
        #expect(throws: CloudEventRecordError.self) { try CloudEvent(record: bareRecord) }
    }
}
