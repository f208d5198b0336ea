// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore
import Testing

@Suite(.timeLimit(.minutes(5)))
struct CloudEventJSONTests {
    private static let start = #"{"specversion":"1.0","id":"1","source":"s","type":"t""#

    private static func decode(_ text: String) throws -> CloudEvent {
        try CloudEvent.decodeStructured(Array(text.utf8))
    }

    private static func encode(_ event: CloudEvent) -> String {
        var bytes: [UInt8] = []
        event.encodeStructured(into: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test func readsTheElementEventOfTheReference() throws {
        let event = try Self.decode(
            #"""
            {"specversion":"1.0","id":"1004356627333135","type":"vastdata.com:Element.ElementCreated",
             "source":"vastdata.com:trigger.0a1b","subject":"vast-broker-b.t","time":"2026-04-08T15:41:29.591955+00:00",
             "datacontenttype":"application/json","dataschema":null,"elementhandle":"8025198034623744117","elementpath":"bucket/test.md",
             "knativekafkapartition":"0","data":{"Records":[{"eventVersion":"2.2"}]}}
            """#
        )
        #expect(event.id == "1004356627333135")
        #expect(event.time == "2026-04-08T15:41:29.591955+00:00")
        #expect(event.dataSchema == nil)
        #expect(event.extensions.map(\.name) == ["elementhandle", "elementpath", "knativekafkapartition"])
        #expect(event.data == Array(#"{"Records":[{"eventVersion":"2.2"}]}"#.utf8))
    }

    @Test func keepsJSONDataAsItWasWritten() throws {
        for data in [#"{ "b":1.50, "a" : 1e5 }"#, "12345678901234567890", #""text \u0041""#, "false", "[]"] {
            let event = try Self.decode("\(Self.start),\"data\": \(data) }")
            #expect(event.data == Array(data.utf8))
            #expect(event.dataContentType == "application/json")
            let type = #""datacontenttype":"application/json""#
            #expect(Self.encode(event) == "\(Self.start),\(type),\"data\":\(data)}")
        }
    }

    @Test(arguments: [
        CloudEvent(id: "1", source: "s", type: "t"),
        CloudEvent(
            id: "ü\"\\",
            source: "urn:x",
            type: "t",
            subject: "a b",
            time: "2026-01-01T00:00:00Z",
            dataContentType: "text/plain; charset=utf-8",
            dataSchema: "https://example.org/s",
            extensions: [.init("b", "2"), .init("a", "1")],
            data: Array("plain".utf8)
        ),
        CloudEvent(id: "1", source: "s", type: "t", dataContentType: "application/octet-stream", data: [0, 255, 1]),
        CloudEvent(id: "1", source: "s", type: "t", dataContentType: "application/vnd.x+json", data: Array("[1]".utf8)),
        CloudEvent(id: "1", source: "s", type: "t", dataContentType: "application/json", data: Array("not json".utf8)),
        CloudEvent(id: "1", source: "s", type: "t", dataContentType: "text/plain", data: []),
        CloudEvent(id: "1", source: "s", type: "t", data: [0xFF]),
    ])
    func comesBackAsItWas(event: CloudEvent) throws {
        #expect(try Self.decode(Self.encode(event)) == event)
        var bytes: [UInt8] = []
        CloudEvent.encodeBatch([event, event], into: &bytes)
        #expect(try CloudEvent.decodeBatch(bytes) == [event, event])
    }

    @Test func readsDataOfOtherTypes() throws {
        #expect(
            try Self.decode(Self.start + #","datacontenttype":"text/plain","data":"a\nü"}"#).data == Array("a\nü".utf8)
        )
        #expect(
            try Self.decode(Self.start + #","data":"a\nü","datacontenttype":"text/plain"}"#).data == Array("a\nü".utf8)
        )
        #expect(
            try Self.decode(Self.start + #","datacontenttype":"text/xml","data":{"a":1}}"#).data
                == Array(#"{"a":1}"#.utf8)
        )
        #expect(try Self.decode(Self.start + #","data_base64":"AP8="}"#).data == [0, 255])
        #expect(try Self.decode(Self.start + #","data":null,"data_base64":null}"#).data == nil)
        #expect(
            try Self.decode(Self.start + #","count":-5,"flag":false}"#).extensions == [
                .init("count", "-5"), .init("flag", "false"),
            ]
        )
    }

    @Test(arguments: [
        (#"{}"#, "specversion", "is missing"),
        (#"{"specversion":"1.0","id":"1","source":"s"}"#, "type", "is missing"),
        (#"{"specversion":"1.1","id":"1","source":"s","type":"t"}"#, "specversion", "1.1"),
        (#"{"specversion":1.0,"id":"1","source":"s","type":"t"}"#, "specversion", "must be a string"),
        (#"{"specversion":"1.0","id":"","source":"s","type":"t"}"#, "id", "empty"),
        (#"{"specversion":"1.0","id":null,"source":"s","type":"t"}"#, "id", "is missing"),
        (#"{"specversion":"1.0","id":5,"source":"s","type":"t"}"#, "id", "must be a string"),
        (#"{"specversion":"1.0","id":"1","source":"a b","type":"t"}"#, "source", "URI"),
        (start + #","time":"2026-02-30T00:00:00Z"}"#, "time", "RFC 3339"),
        (start + #","datacontenttype":"json"}"#, "datacontenttype", "media type"),
        (start + #","subject":""}"#, "subject", "empty"),
        (start + #","Upper":"x"}"#, "Upper", "usable attribute name"),
        (start + #","":"x"}"#, "", "usable attribute name"),
        (start + #","x":{}}"#, "x", "an object"),
        (start + #","x":1.5}"#, "x", "no integer"),
        (start + #","x":"1","x":"2"}"#, "x", "twice"),
        (start + #","id":"2"}"#, "id", "twice"),
        (start + #","x":"a\u0000b"}"#, "x", "U+0000"),
        (start + #","data":1,"data_base64":"AA=="}"#, "data_base64", "beside data"),
        (start + #","data":1,"data":2}"#, "data", "twice"),
        (start + #","data_base64":"*"}"#, "data_base64", "not base64"),
        (start + #","data_base64":{}}"#, "data_base64", "must be a string"),
    ])
    func refuses(text: String, field: String, says: String) throws {
        let error = #expect(throws: ServiceError.self) { _ = try Self.decode(text) }
        #expect(error?.code == .invalid)
        #expect(error?.fields.first?.field == field)
        #expect(error?.message.contains(says) == true, "\(error?.message ?? "")")
    }

    @Test(arguments: [#"{"#, #"{"data":{]}"#, "", #"{"id":"a"#, start + "} x"])
    func saysWhereTheJSONIsBroken(text: String) {
        #expect(throws: JSONError.self) { _ = try Self.decode(text) }
    }

    @Test func namesTheEventOfABatch() throws {
        let error = #expect(throws: ServiceError.self) {
            _ = try CloudEvent.decodeBatch(Array("[\(Self.start)},\(Self.start),\"X\":1}]".utf8))
        }
        #expect(error?.fields.first?.field == "[1].X")
        let many = "[\(Self.start)},\(Self.start)},\(Self.start)}]"
        #expect(try CloudEvent.decodeBatch(Array(many.utf8), limit: 3).count == 3)
        let refused = #expect(throws: ServiceError.self) { _ = try CloudEvent.decodeBatch(Array(many.utf8), limit: 2) }
        #expect(refused?.code == .tooLarge)
        #expect(try CloudEvent.decodeBatch(Array("[]".utf8)).isEmpty)
    }
}
