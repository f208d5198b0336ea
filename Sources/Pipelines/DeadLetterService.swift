// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Catalog
import EventLog
import Foundation
import KafkaCodec
package import MartletCore

/// The dead-letter topic: what failed, why, and putting it back.
package struct DeadLetterService: DeadLetterServices {
    private static let scanRecords: Int64 = 500
    private static let redrivenKey = "dead-letter.redriven."

    private let catalog: Catalog
    private let services: DispatchServices

    package init(catalog: Catalog, services: DispatchServices) {
        self.catalog = catalog
        self.services = services
    }

    package func list(pipeline: String?, limit: Int, cursor: String?) async throws -> Page<DeadLetter> {
        let wanted = try await pipeline.asyncMap { try await catalog.pipelines.get($0).name }
        var before = Int64.max
        if let cursor {
            guard let offset = Int64(cursor), offset >= 0 else {
                throw ServiceError.invalid(
                    field: "cursor",
                    "'\(cursor.prefix(40))' is not a cursor of this list",
                    fix: "leave it out to start over"
                )
            }
            before = offset
        }
        let partition = TopicPartition(topic: services.deadLetterTopic, partition: 0)
        let bounds = try services.log.bounds(partition)
        var end = min(before, bounds.end)
        var found = [DeadLetter]()
        while end > bounds.start, found.count < limit {
            let start = max(bounds.start, end - Self.scanRecords)
            for record in try await records(partition, start..<end).reversed() {
                guard let letter = letter(record),
                    wanted == nil || letter.pipeline == wanted
                else { continue }
                found.append(letter)
                if found.count == limit { break }
            }
            end = start
        }
        let last = found.last.flatMap { Self.offset(of: $0.id) }
        let more = found.count == limit && (last ?? 0) > bounds.start
        return Page(items: try await marked(found), nextCursor: more ? last.map(String.init) : nil)
    }

    package func get(_ id: String) async throws -> DeadLetter {
        guard let found = try await record(id), let letter = letter(found) else { throw Self.missing(id) }
        return try await marked([letter])[0]
    }

    package func redrive(ids: [String], pipeline: String?, by caller: Caller) async throws -> Int {
        var wanted = ids
        if wanted.isEmpty {
            guard let pipeline else {
                throw ServiceError.invalid(field: "ids", "is empty", fix: "name dead letters by id, or give a pipeline")
            }
            var cursor: String?
            repeat {
                let page = try await list(pipeline: pipeline, limit: 1000, cursor: cursor)
                wanted += page.items.filter { !$0.redriven && $0.errorType != DeadLetterHeaders.unreadable }.map(\.id)
                cursor = page.nextCursor
            } while cursor != nil
            wanted.reverse()
        }
        var seen = Set<String>()
        wanted.removeAll { !seen.insert($0).inserted }
        var byTopic: [String: [Record]] = [:]
        var deployments: [String: Set<String>] = [:]
        for id in wanted {
            guard let found = try await record(id), let name = text(found, DeadLetterHeaders.pipeline),
                let deployment = text(found, DeadLetterHeaders.deployment)
            else { throw Self.missing(id) }
            guard text(found, DeadLetterHeaders.errorType) != DeadLetterHeaders.unreadable else {
                throw ServiceError(
                    .failedPrecondition,
                    "dead letter \(id) stands for records that cannot be read, so there is no event to redrive",
                    fix: "let their producer send them again"
                )
            }
            // By name, so that a pipeline deleted and made again takes up what its namesake left.
            guard let owner = try await catalog.pipelines.find(name), let number = owner.spec.deployedRevisionNumber
            else {
                throw ServiceError(
                    .failedPrecondition,
                    "dead letter \(id) belongs to pipeline '\(name)', which is not deployed",
                    fix: "deploy the pipeline, then redrive"
                )
            }
            let guid = owner.guid
            let topic = PlanBuilder.redriveTopic(pipelineGuid: guid)
            if deployments[guid] == nil {
                let revision = try await catalog.pipelineRevisions.find(pipelineGuid: guid, number: number)
                deployments[guid] = Set(revision?.spec.manifest.functionDeployments.map(\.name) ?? [])
            }
            guard deployments[guid]?.contains(deployment) == true else {
                throw ServiceError(
                    .failedPrecondition,
                    "dead letter \(id) is for deployment '\(deployment)', which pipeline '\(owner.name)' does not have any more",
                    fix: "deploy a revision that has it, or replay the pipeline"
                )
            }
            var record = found.record()
            record.headers.removeAll { $0.key.hasPrefix(DeadLetterHeaders.prefix) }
            record.headers.append(RecordHeader(key: DeadLetterHeaders.redriveTo, string: deployment))
            record.timestamp = Timestamp.nowMicroseconds() / 1000
            byTopic[topic, default: []].append(record)
        }
        for (topic, records) in byTopic { _ = try await services.producer.send(records, topic: topic) }
        let now = Timestamp.format(microseconds: Timestamp.nowMicroseconds())
        try await catalog.state.set(
            Dictionary(uniqueKeysWithValues: Set(wanted).map { (Self.redrivenKey + $0, Optional(now)) })
        )
        return wanted.count
    }

    // MARK: Records

    private static func missing(_ id: String) -> ServiceError {
        ServiceError(.notFound, "no dead letter '\(id.prefix(80))'", fix: "list them with: martlet dead-letters list")
    }

    private static func offset(of id: String) -> Int64? {
        let parts = id.split(separator: "-")
        guard parts.count == 2, parts[0] == "0", let offset = Int64(parts[1]), offset >= 0 else { return nil }
        return offset
    }

    private func record(_ id: String) async throws -> RecordView? {
        guard let offset = Self.offset(of: id) else { throw Self.missing(id) }
        let partition = TopicPartition(topic: services.deadLetterTopic, partition: 0)
        let bounds = try services.log.bounds(partition)
        guard offset >= bounds.start, offset < bounds.end else { return nil }
        return try await records(partition, offset..<offset + 1, bytesMax: 1).first
    }

    private func records(
        _ partition: TopicPartition,
        _ range: Range<Int64>,
        bytesMax: Int = 1 << 20
    ) async throws -> [RecordView] {
        var all = [RecordView]()
        var next = range.lowerBound
        while next < range.upperBound {
            let result = try await services.log.read(partition, from: next, bytesMax: bytesMax)
            guard result.nextOffset > next else { break }
            all += Self.readable(result.bytes).filter { $0.offset >= next && $0.offset < range.upperBound }
            next = result.nextOffset
        }
        return all
    }

    /// What can be read: anybody with a Kafka client may have written to the topic.
    private static func readable(_ bytes: [UInt8]) -> [RecordView] {
        var walk = RecordBatches(bytes)
        var records = [RecordView]()
        while true {
            do throws(RecordBatchError) {
                guard let record = try walk.nextRecord() else { return records }
                records.append(record)
            } catch {
                continue
            }
        }
    }

    private func text(_ record: RecordView, _ header: String) -> String? {
        record.header(header).map { String(decoding: $0, as: UTF8.self) }
    }

    private func letter(_ record: RecordView) -> DeadLetter? {
        guard let pipeline = text(record, DeadLetterHeaders.pipeline),
            let deployment = text(record, DeadLetterHeaders.deployment)
        else { return nil }
        return DeadLetter(
            id: "0-\(record.offset)",
            at: Date(timeIntervalSince1970: Double(record.timestamp) / 1000),
            pipeline: pipeline,
            deployment: deployment,
            error: text(record, DeadLetterHeaders.error) ?? "",
            errorType: text(record, DeadLetterHeaders.errorType) ?? "",
            traceback: text(record, DeadLetterHeaders.traceback),
            attempts: text(record, DeadLetterHeaders.attempts).flatMap { Int($0) } ?? 0,
            originTopic: text(record, DeadLetterHeaders.topic) ?? "",
            originPartition: text(record, DeadLetterHeaders.partition).flatMap { Int32($0) } ?? 0,
            originOffset: text(record, DeadLetterHeaders.offset).flatMap { Int64($0) } ?? 0,
            traceID: text(record, DeadLetterHeaders.trace),
            event: event(record),
            redriven: false
        )
    }

    /// The event as it was; a record that never was one is shown with its bytes as data.
    private func event(_ record: RecordView) -> CloudEvent {
        if let event = try? CloudEvent(record: record) { return event }
        return CloudEvent(
            id: "0-\(record.offset)",
            source: "\(services.authority):\(text(record, DeadLetterHeaders.topic) ?? "")",
            type: "\(services.authority):Record",
            dataContentType: text(record, "content-type"),
            data: record.value.map { Array($0) }
        )
    }

    private func marked(_ letters: [DeadLetter]) async throws -> [DeadLetter] {
        guard !letters.isEmpty else { return [] }
        let known = try await catalog.state.get(letters.map { Self.redrivenKey + $0.id })
        return letters.map { letter in
            var marked = letter
            marked.redriven = known[Self.redrivenKey + letter.id] != nil
            return marked
        }
    }
}

extension Optional {
    fileprivate func asyncMap<Result>(_ transform: (Wrapped) async throws -> Result) async rethrows -> Result? {
        guard let value = self else { return nil }
        return try await transform(value)
    }
}
