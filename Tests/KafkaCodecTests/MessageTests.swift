// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec
import Testing

extension KafkaFrame {
    /// What is sent, with records taken from where they were read.
    func assembled(recordsFrom message: [UInt8]) -> [UInt8] {
        segments.flatMap { segment in
            switch segment {
            case .bytes(let range): Array(bytes[range])
            case .records(let records): Array(message[records.range])
            }
        }
    }
}

@Suite(.timeLimit(.minutes(5)))
struct MessageTests {
    /// A message that was read, and as it is written again.
    struct Exchange {
        var value: any KafkaMessage
        var written: [UInt8]
        var bytesLeft: Int
    }

    static func exchangeRequest<Message: KafkaRequest>(
        _ type: Message.Type,
        _ message: [UInt8],
        _ fixture: MessageFixture
    ) throws -> Exchange {
        try message.withUnsafeBytes { raw in
            var reader = KafkaReader(raw)
            let header = try KafkaRequestHeader(from: &reader)
            #expect(header.api == type.api)
            #expect(header.isSupported)
            #expect(header.version == fixture.version)
            #expect(header.correlationID == fixture.header?.correlationID)
            #expect(header.clientID == fixture.header?.clientID)
            let value = try Message(from: &reader, version: header.version)
            let frame = try value.frame(
                correlationID: header.correlationID,
                clientID: header.clientID,
                version: header.version
            )
            #expect(frame.byteCount == fixture.bytes.count)
            return Exchange(
                value: value,
                written: frame.assembled(recordsFrom: message),
                bytesLeft: reader.bytesLeft
            )
        }
    }

    static func exchangeResponse<Message: KafkaResponse>(
        _ type: Message.Type,
        _ message: [UInt8],
        _ fixture: MessageFixture
    ) throws -> Exchange {
        try message.withUnsafeBytes { raw in
            var reader = KafkaReader(raw)
            let correlationID = reader.int32()
            #expect(correlationID == fixture.header?.correlationID)
            reader.isFlexible = fixture.version >= type.flexibleFrom && type.api != .apiVersions
            reader.skipTags()
            let value = try Message(from: &reader, version: fixture.version)
            let frame = try value.frame(correlationID: correlationID, version: fixture.version)
            #expect(frame.byteCount == fixture.bytes.count)
            return Exchange(
                value: value,
                written: frame.assembled(recordsFrom: message),
                bytesLeft: reader.bytesLeft
            )
        }
    }

    static func exchange(_ fixture: MessageFixture, _ message: [UInt8]) throws -> Exchange {
        switch try #require(messageTypes[fixture.type]) {
        case let type as any KafkaRequest.Type: return try exchangeRequest(type, message, fixture)
        case let type as any KafkaResponse.Type: return try exchangeResponse(type, message, fixture)
        case let type as any ConsumerProtocolMessage.Type:
            let value = try type.init(bytes: fixture.bytes)
            return Exchange(value: value, written: try value.bytes(version: fixture.version), bytesLeft: 0)
        default: throw KafkaCodecError(.badLength, at: 0, value: 0)
        }
    }

    @Test func readsWhatKafkaPythonWritesAndWritesTheSameBytes() throws {
        var seen: [String: Set<Int16>] = [:]
        var values = 0
        for fixture in try MessageFixture.all() {
            let place = "\(fixture.type) version \(fixture.version)"
            let message = fixture.header == nil ? fixture.bytes : Array(fixture.bytes.dropFirst(4))
            let exchange: Exchange
            do {
                exchange = try Self.exchange(fixture, message)
            } catch {
                Issue.record("\(place): \(error)")
                continue
            }
            #expect(exchange.bytesLeft == 0, "\(place)")
            #expect(exchange.written == fixture.bytes, "\(place)")
            var comparison = ValueComparison(frame: message)
            comparison.compare(exchange.value, with: fixture.fields, at: place)
            #expect(comparison.differences == [])
            values += comparison.count
            seen[fixture.type, default: []].insert(fixture.version)
        }
        for (name, type) in messageTypes { #expect(seen[name] == Set(type.versions), "\(name)") }
        #expect(seen.count == messageTypes.count)
        #expect(values > 6_000, "\(values) values were compared")
    }

    @Test func everyServedAPIHasItsMessages() {
        #expect(Set(servedRequests.map { $0.api }) == Set(KafkaAPIKey.allCases))
        for request in servedRequests {
            #expect("\(request)" == request.api.name + "Request")
            #expect("\(request.response)" == request.api.name + "Response")
            #expect(request.versions == request.api.versions)
            #expect(request.response.versions == request.api.versions)
            #expect(request.response.flexibleFrom == request.api.flexibleFrom)
            #expect(request.api.advertisedVersions.upperBound == request.api.versions.upperBound)
        }
    }

    @Test func produceIsAdvertisedFromZeroAndServedFromThree() {
        #expect(KafkaAPIKey.produce.advertisedVersions == 0...12)
        #expect(KafkaAPIKey.produce.versions == 3...12)
        for api in KafkaAPIKey.allCases where api != .produce { #expect(api.advertisedVersions == api.versions) }
    }

    /// The first flexible version of each API, as the protocol's documentation has it.
    static let flexible: [(KafkaAPIKey, Int16)] = [
        (.produce, 9), (.fetch, 12), (.listOffsets, 6), (.metadata, 9), (.offsetCommit, 8), (.offsetFetch, 6),
        (.findCoordinator, 3), (.joinGroup, 6), (.heartbeat, 4), (.leaveGroup, 4), (.syncGroup, 4),
        (.describeGroups, 5), (.listGroups, 3), (.apiVersions, 3), (.createTopics, 5), (.deleteTopics, 4),
        (.deleteRecords, 2), (.initProducerId, 2), (.offsetForLeaderEpoch, 4), (.addPartitionsToTxn, 3), (.endTxn, 3),
        (.describeConfigs, 4), (.saslHandshake, .max), (.offsetDelete, .max), (.describeCluster, 0),
    ]

    @Test(arguments: Self.flexible)
    func flexibleVersionsBeginWhereTheProtocolSays(api: KafkaAPIKey, version: Int16) {
        #expect(api.flexibleFrom == version)
    }

    @Test func theAnswerToApiVersionsHasTheOldestHeader() throws {
        let frame = try ApiVersionsResponse(errorCode: .unsupportedVersion).frame(correlationID: 7, version: 3)
        #expect(frame.bytes == [0, 0, 0, 12, 0, 0, 0, 7, 0, 35, 1, 0, 0, 0, 0, 0])
        let other = try HeartbeatResponse(errorCode: .rebalanceInProgress).frame(correlationID: 7, version: 4)
        #expect(other.bytes == [0, 0, 0, 12, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 27, 0])
    }

    @Test func onlyTheHeaderOfAnUnsupportedRequestIsRead() throws {
        // ApiVersions 99: client id "x", then what a later version may hold.
        let message: [UInt8] = [0, 18, 0, 99, 0, 0, 0, 5, 0, 1, 0x78, 0xFF, 0xFF]
        try message.withUnsafeBytes { raw in
            var reader = KafkaReader(raw)
            let header = try KafkaRequestHeader(from: &reader)
            #expect(header.api == .apiVersions)
            #expect(!header.isSupported)
            #expect(header.correlationID == 5)
            #expect(header.clientID == "x")
            let error = #expect(throws: KafkaCodecError.self) { try ApiVersionsRequest(from: &reader, version: 99) }
            #expect(error?.code == .unsupportedVersion)
        }
        let unknown: [UInt8] = [0x7F, 0xFF, 0, 0, 0, 0, 0, 5, 0xFF, 0xFF]
        try unknown.withUnsafeBytes { raw in
            var reader = KafkaReader(raw)
            let header = try KafkaRequestHeader(from: &reader)
            #expect(header.api == nil)
            #expect(!header.isSupported)
            #expect(header.clientID == nil)
        }
    }

    @Test func recordsAreReferredToAndNotCopied() throws {
        let response = FetchResponse(responses: [
            .init(
                topic: "a",
                partitions: [
                    .init(partitionIndex: 0, records: KafkaRecords(reference: 70, byteCount: 1_000_000)),
                    .init(partitionIndex: 1, errorCode: .offsetOutOfRange, records: .empty),
                    .init(partitionIndex: 2, records: KafkaRecords(reference: 71, byteCount: 5)),
                ]
            )
        ])
        for version in FetchResponse.versions {
            let frame = try response.frame(correlationID: 1, version: version)
            #expect(frame.bytes.count < 300)
            #expect(frame.byteCount == frame.bytes.count + 1_000_005)
            #expect(BigEndian.load(Int32.self, from: frame.bytes, at: 0) == Int32(frame.byteCount - 4))
            let records = frame.segments.compactMap { segment -> KafkaRecords? in
                if case .records(let records) = segment { records } else { nil }
            }
            #expect(records.map(\.reference) == [70, 71])
            #expect(frame.segments.count == (version >= 12 ? 5 : 4))
            #expect(frame.assembled(lengthsOnly: true) == frame.byteCount)
        }
    }

    @Test func producedRecordsAreWhereTheFrameHasThem() throws {
        let batch = RecordBatchEncoder.encode([Record(timestamp: 5, value: [1, 2, 3])])
        let request = ProduceRequest(
            acks: -1,
            topicData: [
                .init(
                    name: "t",
                    partitionData: [.init(index: 3, records: KafkaRecords(reference: 0, byteCount: batch.count))]
                )
            ]
        )
        for version in ProduceRequest.versions {
            let frame = try request.frame(correlationID: 1, clientID: "c", version: version)
            let message = Array(frame.assembled(recordsFrom: batch).dropFirst(4))
            try message.withUnsafeBytes { raw in
                var reader = KafkaReader(raw)
                let header = try KafkaRequestHeader(from: &reader)
                let read = try ProduceRequest(from: &reader, version: header.version)
                let records = try #require(read.topicData.first?.partitionData.first?.records)
                #expect(Array(message[records.range]) == batch)
                #expect(reader.bytesLeft == 0)
            }
        }
    }

    @Test func nullBecomesEmptyWhereAVersionHasNone() throws {
        let response = JoinGroupResponse(errorCode: .unknownMemberId, protocolName: nil)
        let old = try response.frame(correlationID: 0, version: 0).bytes
        #expect(Array(old[8..<16]) == [0, 25, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0])
        let new = try response.frame(correlationID: 0, version: 7).bytes
        // Header with tags, throttle time, error, generation, protocol type, protocol name.
        #expect(Array(new[8..<21]) == [0, 0, 0, 0, 0, 0, 25, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0])
    }

    @Test func whatDoesNotFitItsLengthFieldIsRefused() throws {
        let name = String(repeating: "x", count: 40_000)
        let response = FindCoordinatorResponse(errorMessage: name, coordinators: [.init(key: name)])
        let error = #expect(throws: KafkaCodecError.self) { try response.frame(correlationID: 0, version: 2) }
        #expect(error?.code == .tooLong)
        #expect(error?.value == 40_000)
        #expect(try response.frame(correlationID: 0, version: 4).byteCount > 40_000)
        let unsupported = #expect(throws: KafkaCodecError.self) { try response.frame(correlationID: 0, version: 7) }
        #expect(unsupported?.code == .unsupportedVersion)
    }

    @Test func errorCodesHaveTheNamesOfTheProtocol() {
        #expect(KafkaErrorCode.allCases.map(\.rawValue) == Array(-1...133))
        #expect(KafkaErrorCode.noError.name == "NONE")
        #expect(KafkaErrorCode.notLeaderOrFollower.rawValue == 6)
        #expect(KafkaErrorCode.memberIdRequired.name == "MEMBER_ID_REQUIRED")
        #expect(KafkaErrorCode(rawValue: 100) == .unknownTopicId)
        #expect(Set(KafkaErrorCode.allCases.map(\.name)).count == KafkaErrorCode.allCases.count)
    }

    @Test func idsAreWrittenAsPeopleWriteThem() {
        let id = KafkaUUID(high: 0x0123_4567_89AB_CDEF, low: 0x0011_2233_4455_6677)
        #expect(id.description == "01234567-89ab-cdef-0011-223344556677")
        #expect(id.base64 == "ASNFZ4mrze8AESIzRFVmdw")
        #expect(KafkaUUID(high: .max, low: .max).base64 == "_____________________w")
        let random = KafkaUUID.random()
        #expect(random != .zero && random != KafkaUUID.random())
        #expect(random.description.dropFirst(14).first == "4")
    }

    @Test func groupMetadataOfLaterVersionsIsRead() throws {
        let subscription = ConsumerProtocolSubscription(
            topics: ["a", "b"],
            userData: [9],
            generationID: 4,
            rackID: "r"
        )
        var bytes = try subscription.bytes(version: 3)
        #expect(try ConsumerProtocolSubscription(bytes: bytes) == subscription)
        bytes[1] = 9
        bytes += [1, 2, 3]
        #expect(try ConsumerProtocolSubscription(bytes: bytes) == subscription)
        bytes[0] = 0x80
        #expect(throws: KafkaCodecError.self) { try ConsumerProtocolSubscription(bytes: bytes) }
        #expect(throws: KafkaCodecError.self) { try ConsumerProtocolAssignment(bytes: [0]) }
        #expect(throws: KafkaCodecError.self) { try ConsumerProtocolAssignment(bytes: []) }
    }
}

extension KafkaFrame {
    /// How many bytes the segments have together.
    fileprivate func assembled(lengthsOnly: Bool) -> Int {
        segments.reduce(0) { sum, segment in
            switch segment {
            case .bytes(let range): sum + range.count
            case .records(let records): sum + records.byteCount
            }
        }
    }
}
