// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import KafkaCodec

/// Every request that is served; their responses hang on them.
let servedRequests: [any KafkaRequest.Type] = [
    ProduceRequest.self, FetchRequest.self, ListOffsetsRequest.self, MetadataRequest.self, OffsetCommitRequest.self,
    OffsetFetchRequest.self, FindCoordinatorRequest.self, JoinGroupRequest.self, HeartbeatRequest.self,
    LeaveGroupRequest.self, SyncGroupRequest.self, DescribeGroupsRequest.self, ListGroupsRequest.self,
    SaslHandshakeRequest.self, ApiVersionsRequest.self, CreateTopicsRequest.self, DeleteTopicsRequest.self,
    DeleteRecordsRequest.self, InitProducerIdRequest.self, OffsetForLeaderEpochRequest.self,
    AddPartitionsToTxnRequest.self, AddOffsetsToTxnRequest.self, EndTxnRequest.self, TxnOffsetCommitRequest.self,
    DescribeAclsRequest.self, CreateAclsRequest.self, DeleteAclsRequest.self, DescribeConfigsRequest.self,
    AlterConfigsRequest.self, DescribeLogDirsRequest.self, SaslAuthenticateRequest.self, CreatePartitionsRequest.self,
    DeleteGroupsRequest.self, IncrementalAlterConfigsRequest.self, OffsetDeleteRequest.self,
    DescribeUserScramCredentialsRequest.self, AlterUserScramCredentialsRequest.self, DescribeClusterRequest.self,
    DescribeProducersRequest.self, DescribeTransactionsRequest.self, ListTransactionsRequest.self,
    DescribeTopicPartitionsRequest.self,
]

extension KafkaRequest {
    /// The type of the response, as something that can be put into an array.
    static var response: any KafkaMessage.Type { Response.self }
}

/// The types of all messages by name.
let messageTypes: [String: any KafkaMessage.Type] = {
    var types: [String: any KafkaMessage.Type] = [
        "ConsumerProtocolSubscription": ConsumerProtocolSubscription.self,
        "ConsumerProtocolAssignment": ConsumerProtocolAssignment.self,
    ]
    for request in servedRequests {
        types["\(request)"] = request
        types["\(request.response)"] = request.response
    }
    return types
}()

/// A value of JSON whose integers keep all their digits.
enum JSONValue: Decodable {
    case null
    case bool(Bool)
    case integer(Int64)
    case string(String)
    case array([JSONValue])
    case object([String: JSONValue])

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Int64.self) {
            self = .integer(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode([JSONValue].self) {
            self = .array(value)
        } else {
            self = .object(try container.decode([String: JSONValue].self))
        }
    }
}

/// One message as kafka-python encodes it, and the values inside.
struct MessageFixture: Decodable {
    struct Header: Decodable {
        var correlationID: Int32
        var clientID: String?
    }

    var type: String
    var version: Int16
    var header: Header?
    var fields: JSONValue
    var bytes: [UInt8]

    enum CodingKeys: CodingKey {
        case type, version, header, fields, bytes
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        type = try container.decode(String.self, forKey: .type)
        version = try container.decode(Int16.self, forKey: .version)
        header = try container.decodeIfPresent(Header.self, forKey: .header)
        fields = try container.decode(JSONValue.self, forKey: .fields)
        let hex = Array(try container.decode(String.self, forKey: .bytes).utf8)
        bytes = stride(from: 0, to: hex.count, by: 2).map { Self.digit(hex[$0]) << 4 | Self.digit(hex[$0 + 1]) }
    }

    private static func digit(_ character: UInt8) -> UInt8 {
        character <= UInt8(ascii: "9") ? character - UInt8(ascii: "0") : character - UInt8(ascii: "a") + 10
    }

    /// All of them; Tests/Fixtures/kafka/make.py writes the file.
    static func all() throws -> [MessageFixture] {
        let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let text = try Data(contentsOf: tests.appending(path: "Fixtures/kafka/messages.jsonl"))
        let decoder = JSONDecoder()
        return try text.split(separator: UInt8(ascii: "\n")).map { try decoder.decode(Self.self, from: Data($0)) }
    }
}

/// Compares what was read with what was written into the file, field by field.
struct ValueComparison {
    /// The bytes that positions of records count in.
    let frame: [UInt8]
    /// How many single values were compared.
    private(set) var count = 0
    /// Where they differ.
    private(set) var differences: [String] = []

    init(frame: [UInt8]) {
        self.frame = frame
    }

    mutating func compare(_ value: Any, with expected: JSONValue, at path: String) {
        let mirror = Mirror(reflecting: value)
        if mirror.displayStyle == .optional {
            count += 1
            switch (mirror.children.first?.value, expected) {
            case (nil, .null): return
            case (nil, _), (.some, .null): return differences.append("\(path): \(value) instead of \(expected)")
            case (let inner?, _): return compare(inner, with: expected, at: path)
            }
        }
        switch expected {
        case .object(let fields):
            for (name, field) in fields {
                guard let child = mirror.children.first(where: { $0.label == name }) else {
                    differences.append("\(path): no field \(name)")
                    continue
                }
                compare(child.value, with: field, at: "\(path).\(name)")
            }
        case .array(let elements):
            guard mirror.children.count == elements.count else {
                return differences.append("\(path): \(mirror.children.count) elements instead of \(elements.count)")
            }
            for (index, (child, element)) in zip(mirror.children, elements).enumerated() {
                compare(child.value, with: element, at: "\(path)[\(index)]")
            }
        default:
            count += 1
            if text(value) != text(expected) { differences.append("\(path): \(value) instead of \(expected)") }
        }
    }

    private func text(_ expected: JSONValue) -> String {
        switch expected {
        case .bool(let value): "\(value)"
        case .integer(let value): "\(value)"
        case .string(let value): value
        default: "\(expected)"
        }
    }

    private func text(_ value: Any) -> String {
        switch value {
        case let value as KafkaErrorCode: "\(value.rawValue)"
        case let value as [UInt8]: hex(value)
        case let value as KafkaRecords: hex(Array(frame[value.range]))
        default: "\(value)"
        }
    }

    private func hex(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
