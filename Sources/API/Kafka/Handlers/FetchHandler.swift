// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import MartletCore
import NIOCore

extension KafkaDoor {
    /// The longest a fetch may wait, in milliseconds.
    private static let waitMax: Int32 = 300_000

    /// Answers with whole batches, waiting until there are as many bytes as the client wants or its time is up.
    func fetch(_ call: Call) async throws -> ResponseQueue.Answer {
        let request = try call.head.body(call.frame, as: FetchRequest.self)
        // Sessions are never opened: every answer says so, and every client then goes on asking in full.
        guard request.sessionID == 0, request.sessionEpoch <= 0 else {
            let code: KafkaErrorCode = request.sessionID == 0 ? .invalidFetchSessionEpoch : .fetchSessionIdNotFound
            return try call.head.answer(FetchResponse(errorCode: code))
        }
        var plan = FetchPlan(
            request,
            version: call.version,
            bytesMax: configuration.fetchBytesMax,
            topicName: { log.topic(id: $0)?.name },
            mayRead: { may(call.session, .read, topic: $0) }
        )
        let clock = ContinuousClock()
        let deadline = clock.now + .milliseconds(min(max(0, request.maxWaitMs), Self.waitMax))
        while true {
            await plan.read(from: log, answers, memoryBytesMax: configuration.answerRecordBytesMax)
            if plan.isSatisfied { break }
            let left = clock.now.duration(to: deadline)
            guard left > .zero else { break }
            do {
                guard try await log.waitForRecords(behind: plan.ends, atMost: left, isolation: plan.isolation)
                else { break }
            } catch is EventLogError {
                // A topic went away: reading again says which.
                continue
            }
        }
        return try call.head.answer(plan.response, records: plan.records, plan.loan)
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

    let isolation: ReadIsolation
    private(set) var response = FetchResponse()
    /// What the response's records refer to.
    private(set) var records: [RecordRange.Content] = []
    /// The memory they are in.
    private(set) var loan: AnswerLoan?
    private var parts: [Part] = []
    private let bytesMax: Int
    private let bytesMin: Int
    private var hasError = false
    /// Whether there are records that the limits left out.
    private var hasMore = false
    private var byteCount = 0
    /// What of it is in memory.
    private var memoryBytes = 0
    /// Stretches of files, each of which keeps its file open.
    private var fileCount = 0
    private static let fileCountMax = 256

    init(
        _ request: FetchRequest,
        version: Int16,
        bytesMax: Int,
        topicName: (KafkaUUID) -> String?,
        mayRead: (String) -> Bool
    ) {
        self.bytesMax = min(bytesMax, Int(max(0, request.maxBytes)))
        bytesMin = Int(max(0, request.minBytes))
        isolation = request.isolationLevel == 1 ? .committed : .uncommitted
        var seen: Set<TopicPartition> = []
        for (topic, asked) in request.topics.enumerated() {
            let name = version >= 13 ? topicName(asked.topicID) : asked.topic
            let isAllowed = name.map(mayRead) ?? true
            var answer = FetchResponse.FetchableTopicResponse(topic: name ?? "", topicID: asked.topicID)
            for (place, partition) in asked.partitions.enumerated() {
                var data = FetchResponse.PartitionData(
                    partitionIndex: partition.partition,
                    highWatermark: -1,
                    records: .empty
                )
                if name == nil {
                    data.errorCode = .unknownTopicId
                } else if !isAllowed {
                    data.errorCode = .topicAuthorizationFailed
                } else if let code = KafkaDoor.epochError(partition.currentLeaderEpoch) {
                    data.errorCode = code
                }
                let id = TopicPartition(topic: name ?? "", partition: partition.partition)
                if data.errorCode == .noError, !seen.insert(id).inserted {
                    // Asked for twice, it would be given twice, as often as a request has room for.
                    data.errorCode = .invalidRequest
                }
                hasError = hasError || data.errorCode != .noError
                answer.partitions.append(data)
                guard data.errorCode == .noError else { continue }
                parts.append(
                    Part(
                        topic: topic,
                        place: place,
                        id: id,
                        offset: partition.fetchOffset,
                        bytesMax: Int(max(0, partition.partitionMaxBytes))
                    )
                )
            }
            response.responses.append(answer)
        }
    }

    /// Whether the answer need not wait for more; where the limits keep records back, waiting brings none.
    var isSatisfied: Bool { hasError || hasMore || byteCount >= bytesMin || parts.isEmpty }

    /// Where each partition was read up to.
    var ends: [(TopicPartition, Int64)] { parts.map { ($0.id, $0.end ?? $0.offset) } }

    /// Reads every partition anew, at most `memoryBytesMax` of it from memory.
    mutating func read(from log: LocalLog, _ answers: AnswerMemory, memoryBytesMax: Int) async {
        records.removeAll()
        byteCount = 0
        memoryBytes = 0
        fileCount = 0
        hasMore = false
        let loan = answers.take(upTo: min(memoryBytesMax, bytesMax))
        let memoryMax = loan.bytes
        defer {
            loan.set(memoryBytes)
            self.loan = loan
        }
        for number in parts.indices {
            let part = parts[number]
            // The very first batch is given whatever its size; where nothing more fits, only the bounds are.
            let room = min(part.bytesMax, bytesMax - byteCount)
            let hasRoom = byteCount == 0 || (room > 0 && fileCount < Self.fileCountMax && log.lendsFiles)
            set(number, await read(part, hasRoom ? room : nil, memoryBytesMax: memoryMax - memoryBytes, log))
        }
    }

    private enum Found {
        case range(RecordRange)
        case bounds(start: Int64, end: Int64, stable: Int64)
        case failed(EventLogError)
    }

    private func read(_ part: Part, _ bytesMax: Int?, memoryBytesMax: Int, _ log: LocalLog) async -> Found {
        do {
            guard let bytesMax else {
                let bounds = try log.bounds(part.id)
                return .bounds(start: bounds.start, end: bounds.end, stable: bounds.stable)
            }
            return .range(
                try await log.readRange(
                    part.id,
                    from: part.offset,
                    bytesMax: bytesMax,
                    isolation: isolation,
                    memoryBytesMax: memoryBytesMax
                )
            )
        } catch let error as EventLogError {
            return .failed(error)
        } catch {
            return .failed(EventLogError(.closed, "\(error)"))
        }
    }

    private mutating func set(_ number: Int, _ found: Found) {
        let part = parts[number]
        var data = response.responses[part.topic].partitions[part.place]
        data.records = .empty
        data.abortedTransactions = isolation == .committed ? [] : nil
        switch found {
        case .range(let range):
            data.highWatermark = range.highWatermark
            data.lastStableOffset = range.lastStableOffset
            data.logStartOffset = range.logStartOffset
            parts[number].end = range.nextOffset
            let readable = isolation == .committed ? range.lastStableOffset : range.highWatermark
            hasMore = hasMore || range.nextOffset < readable
            // A batch that is larger than what is left waits for the next answer, unless it is the first.
            if range.byteCount > 0, byteCount == 0 || byteCount + range.byteCount <= bytesMax {
                data.records = KafkaRecords(reference: records.count, byteCount: range.byteCount)
                if isolation == .committed {
                    data.abortedTransactions = range.abortedTransactions.map {
                        FetchResponse.AbortedTransaction(producerID: $0.producerID, firstOffset: $0.firstOffset)
                    }
                }
                records.append(range.content)
                byteCount += range.byteCount
                if case .bytes = range.content { memoryBytes += range.byteCount } else { fileCount += 1 }
            }
        case .bounds(let start, let end, let stable):
            data.highWatermark = end
            data.lastStableOffset = stable
            data.logStartOffset = start
            hasMore = hasMore || part.offset < (isolation == .committed ? stable : end)
        case .failed(let error):
            data.errorCode = error.kafkaCode
            hasError = true
        }
        response.responses[part.topic].partitions[part.place] = data
    }
}

extension RequestHead {
    /// The response as it is sent, with the records it refers to in their places.
    func answer(
        _ response: FetchResponse,
        records: [RecordRange.Content],
        _ loan: AnswerLoan?
    ) throws(KafkaCodecError) -> ResponseQueue.Answer {
        let frame = try response.frame(correlationID: header.correlationID, version: version)
        let bytes = ByteBuffer(bytes: frame.bytes)
        var parts: [ResponsePart] = []
        for segment in frame.segments {
            switch segment {
            case .bytes(let range):
                if let slice = bytes.getSlice(at: range.lowerBound, length: range.count) { parts.append(.bytes(slice)) }
            case .records(let chunk):
                switch records[chunk.reference] {
                case .bytes(let batches): parts.append(.bytes(ByteBuffer(bytes: batches)))
                case .file(let range): parts.append(.file(range))
                }
            }
        }
        return .parts(parts, loan)
    }
}
