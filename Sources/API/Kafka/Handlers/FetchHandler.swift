// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import MartletCore
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
        var plan = FetchPlan(
            request,
            version: call.version,
            bytesMax: configuration.fetchBytesMax,
            topicName: { log.topic(id: $0)?.name },
            mayRead: { may(call.session, .read, topic: $0) }
        )
        let clock = ContinuousClock()
        let began = clock.now
        while true {
            await plan.read(from: log, answers, memoryBytesMax: configuration.answerRecordBytesMax)
            guard case .wait(let left) = plan.decision.next(after: began.duration(to: clock.now)) else { break }
            let hadNone = plan.letGo()
            do {
                let isOver = try await !log.waitForRecords(
                    behind: plan.ends,
                    atMost: left,
                    isolation: plan.isolation
                )
                if isOver, hadNone { break }
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
    /// Whether it is answered, and what there is room for.
    private(set) var decision: FetchDecision
    private var parts: [Part] = []

    init(
        _ request: FetchRequest,
        version: Int16,
        bytesMax: Int,
        topicName: (KafkaUUID) -> String?,
        mayRead: (String) -> Bool
    ) {
        decision = FetchDecision(
            bytesMax: min(bytesMax, Int(max(0, request.maxBytes))),
            bytesMin: request.minBytes,
            waitMilliseconds: request.maxWaitMs
        )
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
                answer.partitions.append(data)
                guard data.errorCode == .noError else {
                    decision.fail()
                    continue
                }
                decision.addPartition()
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

    /// Where each partition was read up to.
    var ends: [(TopicPartition, Int64)] { parts.map { ($0.id, $0.end ?? $0.offset) } }

    /// Gives back the memory of what was read while more is waited for, since everything is read anew then; true where nothing was read.
    mutating func letGo() -> Bool {
        defer {
            records.removeAll()
            loan = nil
        }
        return records.isEmpty
    }

    /// Reads every partition anew, at most `memoryBytesMax` of it from memory.
    mutating func read(from log: LocalLog, _ answers: AnswerMemory, memoryBytesMax: Int) async {
        records.removeAll()
        let loan = answers.take(upTo: decision.memoryWanted(upTo: memoryBytesMax))
        decision.begin(memoryBytesMax: loan.bytes)
        defer {
            loan.set(decision.memoryBytes)
            self.loan = loan
        }
        for number in parts.indices {
            let part = parts[number]
            set(number, await read(part, decision.share(of: part.bytesMax, lendsFiles: log.lendsFiles), log))
        }
    }

    /// Where the records of a partition begin and end.
    private typealias Bounds = (start: Int64, end: Int64, stable: Int64)

    private enum Found {
        case range(RecordRange)
        case bounds(start: Int64, end: Int64, stable: Int64)
        case failed(EventLogError, Bounds?)
    }

    private func read(_ part: Part, _ share: FetchDecision.Share?, _ log: LocalLog) async -> Found {
        do {
            guard let share else {
                let bounds = try log.bounds(part.id)
                return .bounds(start: bounds.start, end: bounds.end, stable: bounds.stable)
            }
            return .range(
                try await log.readRange(
                    part.id,
                    from: part.offset,
                    bytesMax: share.bytes,
                    isolation: isolation,
                    memoryBytesMax: share.memoryBytes
                )
            )
        } catch let error as EventLogError {
            // Clients take from an error, too, where the partition begins and ends: their lag, and where to go on.
            return .failed(error, (try? log.bounds(part.id)).map { ($0.start, $0.end, $0.stable) })
        } catch {
            return .failed(EventLogError(.closed, "\(error)"), nil)
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
            let isFile = if case .file = range.content { true } else { false }
            let isTaken = decision.take(
                byteCount: range.byteCount,
                isFile: isFile,
                next: range.nextOffset,
                readable: isolation == .committed ? range.lastStableOffset : range.highWatermark
            )
            if isTaken {
                data.records = KafkaRecords(reference: records.count, byteCount: range.byteCount)
                if isolation == .committed {
                    data.abortedTransactions = range.abortedTransactions.map {
                        FetchResponse.AbortedTransaction(producerID: $0.producerID, firstOffset: $0.firstOffset)
                    }
                }
                records.append(range.content)
            }
        case .bounds(let start, let end, let stable):
            data.highWatermark = end
            data.lastStableOffset = stable
            data.logStartOffset = start
            decision.pass(offset: part.offset, readable: isolation == .committed ? stable : end)
        case .failed(let error, let bounds):
            data.errorCode = error.kafkaCode
            data.highWatermark = bounds?.end ?? -1
            data.lastStableOffset = bounds?.stable ?? -1
            data.logStartOffset = bounds?.start ?? -1
            decision.fail()
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
