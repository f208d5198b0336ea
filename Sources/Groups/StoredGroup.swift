// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec

/// What a group needs after a restart; docs/formats/group-state.md has the bytes.
package struct StoredGroup: Sendable, Equatable {
    /// A member.
    package struct Member: Sendable, Equatable {
        /// The member's id.
        package var id: String
        /// The member's `group.instance.id`.
        package var instanceID: String?
        /// The client's id.
        package var clientID: String
        /// The client's address.
        package var clientHost: String
        /// The member's session timeout.
        package var sessionTimeoutMilliseconds: Int64
        /// The member's rebalance timeout.
        package var rebalanceTimeoutMilliseconds: Int64
        /// The protocols it knows.
        package var protocols: [GroupJoin.MemberProtocol]
        /// What it reads.
        package var assignment: [UInt8]

        /// Describes a member.
        package init(
            id: String,
            instanceID: String?,
            clientID: String,
            clientHost: String,
            sessionTimeoutMilliseconds: Int64,
            rebalanceTimeoutMilliseconds: Int64,
            protocols: [GroupJoin.MemberProtocol],
            assignment: [UInt8]
        ) {
            self.id = id
            self.instanceID = instanceID
            self.clientID = clientID
            self.clientHost = clientHost
            self.sessionTimeoutMilliseconds = sessionTimeoutMilliseconds
            self.rebalanceTimeoutMilliseconds = rebalanceTimeoutMilliseconds
            self.protocols = protocols
            self.assignment = assignment
        }
    }

    /// Why bytes are no group.
    package enum DecodingError: Error, Equatable, CustomStringConvertible {
        /// Written by a newer engine.
        case unknownVersion(UInt8)
        /// The fields do not fit the bytes.
        case malformed

        package var description: String {
            switch self {
            case .unknownVersion(let version): "it has version \(version), and this engine reads version 1"
            case .malformed: "its fields do not fit its bytes"
            }
        }
    }

    static let version: UInt8 = 1
    /// Beyond this a counter would come near the end of its range.
    private static let generationMax: Int32 = .max - 1_000_000

    /// The group's protocol type.
    package var protocolType: String
    /// The number of the assignment.
    package var generation: Int32
    /// Generations up to this one may have been given out.
    package var reservedThrough: Int32 = 0
    /// The protocol in use; nil without members.
    package var protocolName: String?
    /// The leader's member id; nil without members.
    package var leader: String?
    /// Since when there are no members, in milliseconds since 1970; nil with members.
    package var emptySince: Int64?
    /// The members, oldest first.
    package var members: [Member] = []

    /// Describes a group without members.
    package init(protocolType: String, generation: Int32) {
        self.protocolType = protocolType
        self.generation = generation
    }

    // MARK: Bytes

    /// The group as bytes; whoever stores them adds a checksum.
    package func encode() -> [UInt8] {
        var bytes: [UInt8] = [Self.version]
        BigEndian.append(generation, to: &bytes)
        BigEndian.append(reservedThrough, to: &bytes)
        BigEndian.append(emptySince ?? -1, to: &bytes)
        Self.append(protocolType, to: &bytes)
        Self.append(protocolName, to: &bytes)
        Self.append(leader, to: &bytes)
        BigEndian.append(UInt32(members.count), to: &bytes)
        for member in members {
            Self.append(member.id, to: &bytes)
            Self.append(member.instanceID, to: &bytes)
            Self.append(member.clientID, to: &bytes)
            Self.append(member.clientHost, to: &bytes)
            BigEndian.append(member.sessionTimeoutMilliseconds, to: &bytes)
            BigEndian.append(member.rebalanceTimeoutMilliseconds, to: &bytes)
            BigEndian.append(UInt32(member.protocols.count), to: &bytes)
            for known in member.protocols {
                Self.append(known.name, to: &bytes)
                Self.append(known.metadata, to: &bytes)
            }
            Self.append(member.assignment, to: &bytes)
        }
        return bytes
    }

    private static func append(_ text: String?, to bytes: inout [UInt8]) {
        BigEndian.append(Int32(text.map(\.utf8.count) ?? -1), to: &bytes)
        if let text { bytes += text.utf8 }
    }

    private static func append(_ content: [UInt8], to bytes: inout [UInt8]) {
        BigEndian.append(Int32(content.count), to: &bytes)
        bytes += content
    }

    /// Reads a group.
    ///
    /// - Throws: `.unknownVersion`, `.malformed`.
    package init(decoding bytes: [UInt8]) throws(DecodingError) {
        guard let version = bytes.first else { throw .malformed }
        guard version == Self.version else { throw .unknownVersion(version) }
        var reader = Reader(bytes: bytes, position: 1)
        generation = try reader.integer()
        reservedThrough = try reader.integer()
        let since: Int64 = try reader.integer()
        guard let type = try reader.text() else { throw .malformed }
        protocolType = type
        protocolName = try reader.text()
        leader = try reader.text()
        emptySince = since < 0 ? nil : since
        let count: UInt32 = try reader.integer()
        for _ in 0..<count { members.append(try reader.member()) }
        guard reader.position == bytes.count, (0...Self.generationMax).contains(generation),
            (generation...Self.generationMax).contains(reservedThrough), Set(members.map(\.id)).count == members.count
        else { throw .malformed }
    }

    private struct Reader {
        let bytes: [UInt8]
        var position: Int

        mutating func integer<Value: FixedWidthInteger & BitwiseCopyable>() throws(DecodingError) -> Value {
            guard bytes.count - position >= MemoryLayout<Value>.size else { throw .malformed }
            defer { position += MemoryLayout<Value>.size }
            return BigEndian.load(Value.self, from: bytes, at: position)
        }

        mutating func content() throws(DecodingError) -> ArraySlice<UInt8>? {
            let length: Int32 = try integer()
            if length == -1 { return nil }
            guard length >= 0, Int(length) <= bytes.count - position else { throw .malformed }
            defer { position += Int(length) }
            return bytes[position..<position + Int(length)]
        }

        mutating func text() throws(DecodingError) -> String? {
            guard let slice = try content() else { return nil }
            guard let text = String(validating: slice, as: UTF8.self) else { throw .malformed }
            return text
        }

        mutating func required() throws(DecodingError) -> String {
            guard let text = try text() else { throw .malformed }
            return text
        }

        mutating func member() throws(DecodingError) -> Member {
            var member = Member(
                id: try required(),
                instanceID: try text(),
                clientID: try required(),
                clientHost: try required(),
                sessionTimeoutMilliseconds: try integer(),
                rebalanceTimeoutMilliseconds: try integer(),
                protocols: [],
                assignment: []
            )
            let count: UInt32 = try integer()
            for _ in 0..<count {
                let name = try required()
                guard let metadata = try content() else { throw .malformed }
                member.protocols.append(GroupJoin.MemberProtocol(name: name, metadata: Array(metadata)))
            }
            guard let assignment = try content(), member.sessionTimeoutMilliseconds >= 0,
                member.rebalanceTimeoutMilliseconds >= 0
            else { throw .malformed }
            member.assignment = Array(assignment)
            return member
        }
    }
}
