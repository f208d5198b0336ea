// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import NIOCore

extension KafkaDoor {
    /// Answers with whole batches, waiting until there are as many bytes as the client wants or its time is up.
    func fetch(_ call: Call) async throws -> ResponseQueue.Answer {
        let request = try call.head.body(call.frame, as: FetchRequest.self)
        // Sessions are never opened: every answer says so, and every client then goes on asking in full.
        guard request.sessionID == 0, request.sessionEpoch <= 0 else {
            let code: KafkaErrorCode = request.sessionID == 0 ? .invalidFetchSessionEpoch : .fetchSessionIdNotFound
            return try call.head.answer(FetchResponse(errorCode: code))
        }
        var plan = FetchPlan(request, version: call.version, bytesMax: configuration.fetchBytesMax, topicNames: name)
        let clock = ContinuousClock()
        let deadline = clock.now + .milliseconds(min(max(0, request.maxWaitMs), 300_000))
        while true {
            try await plan.read(from: log)
            if plan.isSatisfied { break }
            let left = clock.now.duration(to: deadline)
            guard left > .zero else { break }
            guard try await log.waitForRecords(behind: plan.ends, atMost: left) else { break }
        }
        return try call.head.answer(plan.response, records: plan.records)
    }

    /// The name of the topic with this id.
    private func name(of id: KafkaUUID) -> String? {
        log.topic(id: id)?.name
    }
}

/// What a fetch asks for and what has been found.
struct FetchPlan {
    private struct Part {
        let topic: Int
        let place: Int
        let id: TopicPartition
        let offset: Int64
        let bytesMax: Int
        var end: Int64?
    }

    private(set) var response: FetchResponse
    /// What the response's records refer to.
    private(set) var records: [[UInt8]] = []
    private var parts: [Part] = []
    private let bytesMax: Int
    private let bytesMin: Int
    private let isCommitted: Bool
    private var hasError = false
    private var byteCount = 0

    init(_ request: FetchRequest, version: Int16, bytesMax: Int, topicNames: (KafkaUUID) -> String?) {
        self.bytesMax = min(bytesMax, Int(max(0, request.maxBytes)))
        bytesMin = Int(max(0, request.minBytes))
        isCommitted = request.isolationLevel == 1
        response = FetchResponse()
        for (topic, asked) in request.topics.enumerated() {
            let name = version >= 13 ? topicNames(asked.topicID) : asked.topic
            var answer = FetchResponse.FetchableTopicResponse(topic: name ?? "", topicID: asked.topicID)
            for (place, partition) in asked.partitions.enumerated() {
                var data = FetchResponse.PartitionData(
                    partitionIndex: partition.partition,
                    highWatermark: -1,
                    records: .empty
                )
                if name == nil {
                    data.errorCode = .unknownTopicId
                } else if let code = KafkaDoor.epochError(partition.currentLeaderEpoch) {
                    data.errorCode = code
                }
                hasError = hasError || data.errorCode != .noError
                answer.partitions.append(data)
                guard let name, data.errorCode == .noError else { continue }
                parts.append(
                    Part(
                        topic: topic,
                        place: place,
                        id: TopicPartition(topic: name, partition: partition.partition),
                        offset: partition.fetchOffset,
                        bytesMax: Int(max(0, partition.partitionMaxBytes))
                    )
                )
            }
            response.responses.append(answer)
        }
    }

    /// Whether the answer need not wait for more.
    var isSatisfied: Bool { hasError || byteCount >= bytesMin || parts.isEmpty }

    /// Where each partition was read up to.
    var ends: [(TopicPartition, Int64)] { parts.map { ($0.id, $0.end ?? $0.offset) } }

    /// Reads every partition anew.
    mutating func read(from log: LocalLog) async throws {
        records.removeAll()
        byteCount = 0
        for number in parts.indices {
            let part = parts[number]
            let data = await Self.read(part.id, part.offset, bytes(for: part), from: log)
            set(number, data)
        }
    }

    /// How much of a partition fits; the very first batch is given whatever its size.
    private func bytes(for part: Part) -> Int? {
        if byteCount == 0 { return min(part.bytesMax, bytesMax) }
        let left = min(part.bytesMax, bytesMax - byteCount)
        return left > 0 ? left : nil
    }

    private static func read(
        _ id: TopicPartition,
        _ offset: Int64,
        _ bytesMax: Int?,
        from log: LocalLog
    ) async -> Result<ReadResult, EventLogError> {
        do {
            guard let bytesMax else {
                let bounds = try log.bounds(id)
                return .success(
                    ReadResult(bytes: [], highWatermark: bounds.end, logStartOffset: bounds.start, nextOffset: offset)
                )
            }
            return .success(try await log.read(id, from: offset, bytesMax: bytesMax))
        } catch let error as EventLogError {
            return .failure(error)
        } catch {
            return .failure(EventLogError(.closed, "\(error)"))
        }
    }

    private mutating func set(_ number: Int, _ result: Result<ReadResult, EventLogError>) {
        let part = parts[number]
        var data = response.responses[part.topic].partitions[part.place]
        switch result {
        case .success(let read):
            // A batch that is larger than what is left waits for the next answer, unless it is the first.
            let fits = byteCount == 0 || byteCount + read.bytes.count <= bytesMax
            data.highWatermark = read.highWatermark
            data.lastStableOffset = read.highWatermark
            data.logStartOffset = read.logStartOffset
            data.abortedTransactions = isCommitted ? [] : nil
            data.records = .empty
            parts[number].end = read.nextOffset
            if !read.bytes.isEmpty, fits {
                data.records = KafkaRecords(reference: records.count, byteCount: read.bytes.count)
                records.append(read.bytes)
                byteCount += read.bytes.count
            }
        case .failure(let error):
            data.errorCode = error.kafkaCode
            data.records = .empty
            hasError = true
        }
        response.responses[part.topic].partitions[part.place] = data
    }
}

extension RequestHead {
    /// The response as it is sent, with the records it refers to in their places.
    func answer(_ response: FetchResponse, records: [[UInt8]]) throws(KafkaCodecError) -> ResponseQueue.Answer {
        let frame = try response.frame(correlationID: header.correlationID, version: version)
        let bytes = ByteBuffer(bytes: frame.bytes)
        var parts: [IOData] = []
        for segment in frame.segments {
            switch segment {
            case .bytes(let range):
                if let slice = bytes.getSlice(at: range.lowerBound, length: range.count) {
                    parts.append(.byteBuffer(slice))
                }
            case .records(let chunk): parts.append(.byteBuffer(ByteBuffer(bytes: records[chunk.reference])))
            }
        }
        return .parts(parts)
    }
}
