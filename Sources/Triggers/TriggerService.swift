// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Catalog
import Documents
import EventLog
package import Foundation
package import MartletCore

/// Triggers: checks what people write, stores it, and tells the runtime.
package struct TriggerService: TriggerServices {
    private let catalog: Catalog
    private let board: StatusBoard
    private let onChange: @Sendable () async -> Void
    private let now: @Sendable () -> Date

    /// Makes the service; `onChange` is awaited after every change, so that it has taken effect when the caller hears of it.
    package init(
        catalog: Catalog,
        board: StatusBoard,
        now: @escaping @Sendable () -> Date = { Date() },
        onChange: @escaping @Sendable () async -> Void
    ) {
        self.catalog = catalog
        self.board = board
        self.now = now
        self.onChange = onChange
    }

    package func create(_ document: Document, by caller: Caller, dryRun: Bool) async throws -> Resource<TriggerSpec> {
        let written = try TriggerDocument(document)
        guard let name = written.name else {
            throw ServiceError.invalid(
                field: "name",
                "missing field 'name' in a trigger",
                fix: "add 'name'",
                line: document.lines[""]
            )
        }
        try ResourceName.check(name)
        let topic: String
        if let given = written.topic { topic = given } else { topic = try await defaultTopic(document) }
        var spec = TriggerSpec(type: written.type ?? (written.cron == nil ? .element : .schedule), topicName: topic)
        try fill(&spec, written, document)
        let finished = spec
        let resource = try await catalog.transaction(dryRun: dryRun) { transaction in
            try Self.checkReferences(finished, document, transaction)
            return try transaction.create(
                name: name,
                description: written.description ?? "",
                tags: written.tags ?? [],
                owner: ResourceMetadata.Owner(name: caller.name),
                spec: finished
            )
        }
        if !dryRun { await onChange() }
        return resource
    }

    package func update(
        _ id: String,
        _ document: Document,
        by caller: Caller,
        dryRun: Bool
    ) async throws -> Resource<TriggerSpec> {
        let written = try TriggerDocument(document)
        let old = try await catalog.triggers.get(id)
        if let name = written.name, name != old.name {
            throw ServiceError.invalid(
                field: "name",
                "the name '\(old.name)' cannot be changed",
                fix: "leave name out, or create another trigger",
                line: document.lines["name"]
            )
        }
        var spec = old.spec
        if let type = written.type, type != spec.type {
            throw ServiceError.invalid(
                field: "type",
                "the type \(spec.type.rawValue) cannot be changed",
                fix: "create another trigger",
                line: document.lines["type"]
            )
        }
        if let topic = written.topic { spec.topicName = topic }
        try fill(&spec, written, document)
        spec.status = "Ready"
        spec.reason = nil
        let finished = spec
        let resource = try await catalog.transaction(dryRun: dryRun) { transaction in
            try Self.checkReferences(finished, document, transaction)
            return try transaction.update(TriggerSpec.self, old.guid) { resource in
                resource.spec = finished
                if let description = written.description { resource.metadata.description = description }
                if let tags = written.tags { resource.metadata.tags = tags }
            }
        }
        if !dryRun { await onChange() }
        return shown(resource)
    }

    package func get(_ id: String) async throws -> Resource<TriggerSpec> {
        shown(try await catalog.triggers.get(id))
    }

    package func list(_ query: ListQuery) async throws -> Page<Resource<TriggerSpec>> {
        var page = try await catalog.triggers.list(query)
        page.items = page.items.map(shown)
        return page
    }

    package func delete(_ id: String, by caller: Caller) async throws {
        try await catalog.triggers.delete(id)
        await onChange()
    }

    package func nextFireTimes(_ id: String, count: Int) async throws -> [Date] {
        guard (1...1000).contains(count) else {
            throw ServiceError.invalid(field: "count", "\(count) is out of range", fix: "use 1 to 1000")
        }
        let spec = try await catalog.triggers.get(id).spec
        guard spec.type == .schedule, let cron = spec.config.cronSchedule else { return [] }
        do {
            return try CronSchedule(cron, timeZone: spec.config.timeZone).next(after: now(), count: count)
        } catch {
            throw ServiceError(
                .internal,
                "the schedule of trigger '\(id)' cannot be read: \(error.reason)",
                fix: error.fix
            )
        }
    }

    private func shown(_ resource: Resource<TriggerSpec>) -> Resource<TriggerSpec> {
        var resource = resource
        let viewReason = board.trigger(resource.guid)
        if let reason = viewReason {
            resource.spec.status = "Failed"
            resource.spec.reason = reason
        }
        return resource
    }

    // MARK: Checks

    private func fill(_ spec: inout TriggerSpec, _ written: TriggerDocument, _ document: Document) throws(ServiceError)
    {
        if let extensions = written.customExtensions { spec.customExtensions = extensions }
        switch spec.type {
        case .element: try fillElement(&spec, written, document)
        case .schedule: try fillSchedule(&spec, written, document)
        }
    }

    private func fillElement(
        _ spec: inout TriggerSpec,
        _ written: TriggerDocument,
        _ document: Document
    ) throws(ServiceError) {
        if written.cron != nil || written.timeZone != nil || written.missedFires != nil {
            throw .invalid(
                field: "cron_schedule",
                "an element trigger has no schedule",
                fix: "write type: Schedule, or leave cron_schedule, time_zone and missed_fires out",
                line: document.lines["cron_schedule"]
            )
        }
        if let view = written.view { spec.sourceBucketName = view }
        guard spec.sourceBucketName != nil else {
            throw .invalid(
                field: "source_bucket_name",
                "missing field 'source_bucket_name' (or source_bucket, view) in an element trigger",
                fix: "add the name of a view: martlet views list",
                line: document.lines[""]
            )
        }
        if let events = written.events { spec.events = events }
        if spec.events.isEmpty { spec.events = [ElementEventName.all[0]] }
        if let filters = written.nameFilters { spec.config.nameFilters = filters }
        if let filters = written.tagFilters { spec.config.tagFilters = filters }
    }

    private func fillSchedule(
        _ spec: inout TriggerSpec,
        _ written: TriggerDocument,
        _ document: Document
    ) throws(ServiceError) {
        let hasElementFields =
            written.view != nil || !(written.events ?? []).isEmpty || written.nameFilters.map { $0 != .init() } == true
            || written.tagFilters.map { $0 != .init() } == true
        if hasElementFields {
            throw .invalid(
                field: "source_bucket_name",
                "a schedule trigger has no view, events or filters",
                fix: "write type: Element, or leave them out",
                line: document.lines["source_bucket"] ?? document.lines["events"]
            )
        }
        if let zone = written.timeZone { spec.config.timeZone = zone }
        if let missed = written.missedFires { spec.config.missedFires = missed }
        if spec.config.timeZone == nil { spec.config.timeZone = "UTC" }
        if spec.config.missedFires == nil { spec.config.missedFires = "once" }
        guard let cron = written.cron ?? spec.config.cronExpression else {
            throw .invalid(
                field: "cron_schedule",
                "missing field 'cron_schedule' in a schedule trigger",
                fix: "add it, such as cron_schedule: \"*/5 * * * *\"",
                line: document.lines[""]
            )
        }
        do throws(CronError) {
            let schedule = try CronSchedule(cron, timeZone: spec.config.timeZone)
            guard schedule.next(after: now()) != nil else {
                throw CronError(
                    field: "year",
                    value: cron,
                    "all fire times are in the past",
                    fix: "leave the year out or choose a later one"
                )
            }
            spec.config.cronExpression = cron
            spec.config.cronSchedule = schedule.expression.normalized
        } catch {
            throw .invalid(
                field: error.field == "time zone" ? "time_zone" : "cron_schedule",
                error.reason,
                fix: error.fix,
                line: document.lines["cron_schedule"] ?? document.lines["config.cron_schedule"]
            )
        }
    }

    /// The topic for triggers that name none.
    private func defaultTopic(_ document: Document) async throws -> String {
        if let topic = try await catalog.topics.all().first(where: \.spec.isDefault) { return topic.name }
        throw ServiceError.invalid(
            field: "topic_name",
            "missing field 'topic_name' (or topic), and there is no default topic",
            fix: "name a topic: martlet topics list",
            line: document.lines[""]
        )
    }

    private static func checkReferences(
        _ spec: TriggerSpec,
        _ document: Document,
        _ transaction: CatalogTransaction
    ) throws {
        var faults: [ServiceError.FieldError] = []
        try EngineTopic.refuseRecords(spec.topicName)
        let topic = try transaction.find(TopicSpec.self, spec.topicName)
        if topic == nil {
            let near = NearestName.of(spec.topicName, among: try transaction.all(TopicSpec.self).map(\.name))
            faults.append(missing(.topics, spec.topicName, field: "topic_name", near: near, document))
        }
        if let view = spec.sourceBucketName, try transaction.find(ViewSpec.self, view) == nil {
            let near = NearestName.of(view, among: try transaction.all(ViewSpec.self).map(\.name))
            faults.append(missing(.views, view, field: "source_bucket_name", near: near, document))
        }
        if let first = faults.first {
            let isOne = faults.count == 1
            throw ServiceError(
                .notFound,
                isOne
                    ? "\(first.field): \(first.message)" : "the trigger needs \(faults.count) things that do not exist",
                fix: isOne ? first.fix : nil,
                fields: faults
            )
        }
        if let topic, topic.spec.isDeadLetter {
            throw ServiceError.invalid(
                field: "topic_name",
                "'\(topic.name)' is the dead-letter topic",
                fix: "choose another topic: martlet topics list",
                line: document.lines["topic_name"] ?? document.lines["topic"]
            )
        }
    }

    private static func missing(
        _ kind: ResourceKind,
        _ name: String,
        field: String,
        near: String?,
        _ document: Document
    ) -> ServiceError.FieldError {
        let aliases = [field, "topic", "source_bucket", "view", "bucket"]
        let isTopic = kind == .topics
        let line = aliases.filter { isTopic == $0.hasPrefix("topic") }.compactMap { document.lines[$0] }.first
        let fix = near.map { "did you mean '\($0)'?" } ?? "list what exists with: martlet \(kind.rawValue) list"
        return ServiceError.FieldError(field: field, message: "no \(kind.noun) named '\(name)'", fix: fix, line: line)
    }
}
