// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Catalog
import EventLog
import Foundation
import Logging
package import MartletCore

/// Pipelines: their manifests in the catalog and what runs of them.
package struct PipelineService: PipelineServices {
    private let catalog: Catalog
    private let runtime: PipelineRuntime
    private let builder: PlanBuilder
    private let tables: (any ManifestTables)?
    private let logger: Logger

    /// Manages pipelines; without `tables` their manifests can declare none.
    package init(catalog: Catalog, runtime: PipelineRuntime, tables: (any ManifestTables)? = nil) {
        self.catalog = catalog
        self.runtime = runtime
        self.tables = tables
        builder = PlanBuilder(catalog: catalog, authority: runtime.services.authority)
        logger = runtime.services.logger
    }

    /// Starts what was deployed when the engine last stopped.
    package func resumeAll() async throws {
        for pipeline in try await catalog.pipelines.all() {
            guard let number = pipeline.spec.deployedRevisionNumber else {
                if pipeline.spec.status == .inProgress {
                    _ = try await set(
                        pipeline.guid,
                        .failure,
                        reason: "The engine stopped while it was deployed; deploy it again."
                    )
                    tell("Failed", pipeline, "the engine stopped while it was deployed", .error)
                }
                continue
            }
            guard pipeline.spec.status != .paused else { continue }
            do {
                let revision = try await revision(pipeline, number)
                let plans = try await runningPlans(pipeline, revision)
                try await runtime.resume(plans, guid: pipeline.guid)
                if pipeline.spec.status != .ready { _ = try await set(pipeline.guid, .ready, reason: Self.readyReason) }
            } catch {
                logger.error(
                    "pipeline cannot be resumed",
                    metadata: ["pipeline": "\(pipeline.name)", "error": "\(error)"]
                )
                _ = try await set(pipeline.guid, .failure, reason: "cannot be resumed: \(error)")
                tell("Failed", pipeline, "it cannot be resumed: \(error)", .error)
            }
        }
    }

    // MARK: Resources

    package func create(_ document: Document, by caller: Caller, dryRun: Bool) async throws -> Resource<PipelineSpec> {
        let read = try PipelineManifestReader.read(document, tables: tables)
        guard let name = read.name else {
            throw ServiceError.invalid(
                field: "name",
                "is missing",
                fix: "add name: <the pipeline's name>, or give --name",
                line: document.lines[""]
            )
        }
        try ResourceName.check(name)
        let graph = try PipelineGraph(read.manifest)
        return try await catalog.transaction(dryRun: dryRun) { tx in
            try read.references.check(pipeline: name, in: tx)
            let pipeline: Resource<PipelineSpec> = try tx.create(
                name: name,
                description: read.description ?? "",
                tags: read.tags ?? [],
                owner: ResourceMetadata.Owner(name: caller.name),
                spec: PipelineSpec(lastRevisionNumber: 1, uses: Self.uses(graph.manifest))
            )
            try Self.addRevision(1, of: pipeline, graph.manifest, in: tx)
            return pipeline
        }
    }

    package func update(
        _ id: String,
        _ document: Document,
        by caller: Caller,
        dryRun: Bool
    ) async throws -> Resource<PipelineSpec> {
        let read = try PipelineManifestReader.read(document, tables: tables)
        guard PipelineManifestReader.hasManifest(document) else {
            let stored = try await catalog.transaction(dryRun: dryRun) { tx in
                try tx.update(PipelineSpec.self, id) { pipeline in
                    if let name = read.name { pipeline.metadata.name = name }
                    if let description = read.description { pipeline.metadata.description = description }
                    if let tags = read.tags { pipeline.metadata.tags = tags }
                }
            }
            return await shown(stored)
        }
        let graph = try PipelineGraph(read.manifest)
        let stored = try await catalog.transaction(dryRun: dryRun) { tx in
            let old = try tx.get(PipelineSpec.self, id)
            try read.references.check(pipeline: old.name, in: tx)
            let revisions = try tx.pipelineRevisions(pipelineGuid: old.guid)
            let isSame =
                revisions.last { $0.spec.revisionNumber == old.spec.lastRevisionNumber }?.spec.manifest
                == graph.manifest
            let deployed = revisions.first { $0.spec.revisionNumber == old.spec.deployedRevisionNumber }
            let pipeline = try tx.update(PipelineSpec.self, id) { pipeline in
                if let name = read.name { pipeline.metadata.name = name }
                if let description = read.description { pipeline.metadata.description = description }
                if let tags = read.tags { pipeline.metadata.tags = tags }
                guard !isSame else { return }
                pipeline.spec.lastRevisionNumber += 1
                pipeline.spec.uses = Self.uses(graph.manifest, deployed?.spec.manifest)
            }
            if !isSame { try Self.addRevision(pipeline.spec.lastRevisionNumber, of: pipeline, graph.manifest, in: tx) }
            return pipeline
        }
        return await shown(stored)
    }

    package func get(_ id: String) async throws -> Resource<PipelineSpec> {
        await shown(try await catalog.pipelines.get(id))
    }

    package func list(_ query: ListQuery) async throws -> Page<Resource<PipelineSpec>> {
        var page = try await catalog.pipelines.list(query)
        for index in page.items.indices { page.items[index] = await shown(page.items[index]) }
        return page
    }

    package func delete(_ id: String, by caller: Caller) async throws {
        try await delete(id, tables: false, by: caller)
    }

    package func delete(_ id: String, tables isWithTables: Bool, by caller: Caller) async throws {
        let pipeline = try await catalog.pipelines.get(id)
        try await runtime.exclusively(pipeline) {
            func remove(dryRun: Bool) async throws {
                try await catalog.transaction(dryRun: dryRun) { tx in
                    try tx.deletePipelineRevisions(pipelineGuid: pipeline.guid)
                    try tx.delete(PipelineSpec.self, pipeline.guid)
                }
            }
            if isWithTables {
                // Tables first: as long as the pipeline is there, it can be deleted again with what is left of them.
                try await remove(dryRun: true)
                try await deleteTables(try await ownTables(pipeline), of: pipeline, by: caller)
            }
            await runtime.stop(pipeline.guid)
            try await remove(dryRun: false)
            try await runtime.forget(pipeline.guid, topics: true)
        }
    }

    private func deleteTables(_ names: [String], of pipeline: Resource<PipelineSpec>, by caller: Caller) async throws {
        for (index, name) in names.enumerated() {
            do { try await tables?.delete(name, by: caller) } catch {
                let gone = index == 0 ? "" : "; deleted before it: \(names[..<index].joined(separator: ", "))"
                let why = (error as? ServiceError)?.message ?? "\(error)"
                throw ServiceError(
                    (error as? ServiceError)?.code ?? .internal,
                    "pipeline '\(pipeline.name)' was not deleted and goes on, because its table '\(name)' could not be: \(why)\(gone)",
                    fix:
                        "delete it again: martlet pipelines delete \(pipeline.name) --tables goes on with the tables that are left"
                )
            }
        }
    }

    /// The tables that the pipeline's deployments made.
    ///
    /// - Throws: `.inUse` for one that another pipeline declares too.
    private func ownTables(_ pipeline: Resource<PipelineSpec>) async throws -> [String] {
        let made = try await tables?.made(by: pipeline.guid) ?? []
        let names = Set(made.map { $0.lowercased() })
        for other in try await catalog.pipelines.all() where other.guid != pipeline.guid {
            guard let shared = try await declaredTables(other).first(where: names.contains) else { continue }
            throw ServiceError(
                .inUse,
                "the table '\(shared)' is declared by pipeline '\(other.name)' too",
                fix: "delete the pipeline without its tables, then those that may go: martlet tables delete NAME"
            )
        }
        return made
    }

    private func declaredTables(_ pipeline: Resource<PipelineSpec>) async throws -> [String] {
        let numbers = Set(
            [pipeline.spec.lastRevisionNumber] + [pipeline.spec.deployedRevisionNumber].compactMap(\.self)
        )
        return try await catalog.pipelineRevisions.all(pipelineGuid: pipeline.guid)
            .filter { numbers.contains($0.spec.revisionNumber) }
            .flatMap { $0.spec.manifest.tables.map { $0.name.lowercased() } }
    }

    package func revisions(_ pipeline: String) async throws -> [Resource<PipelineRevisionSpec>] {
        let pipeline = try await catalog.pipelines.get(pipeline)
        return try await catalog.pipelineRevisions.all(pipelineGuid: pipeline.guid)
    }

    package func manifest(_ id: String, deployed: Bool) async throws -> Resource<PipelineRevisionSpec> {
        let pipeline = try await catalog.pipelines.get(id)
        guard deployed else { return try await revision(pipeline, pipeline.spec.lastRevisionNumber) }
        guard let number = pipeline.spec.deployedRevisionNumber else { throw Self.notDeployed(pipeline) }
        return try await revision(pipeline, number)
    }

    // MARK: Running

    package func deploy(_ id: String, revision number: Int?, by caller: Caller) async throws -> Resource<PipelineSpec> {
        let pipeline = try await catalog.pipelines.get(id)
        return try await runtime.exclusively(pipeline) {
            let revision = try await revision(pipeline, number ?? pipeline.spec.lastRevisionNumber)
            let graph = try PipelineGraph(revision.spec.manifest)
            try graph.checkDeployable()
            let plans = try await builder.plans(for: pipeline, graph)
            _ = try await set(pipeline.guid, .inProgress, reason: "Waiting for pipeline to become ready…")
            var changes: [ManifestTableChange] = []
            do {
                // Tables first: they are there when the first event comes.
                for table in revision.spec.manifest.tables {
                    guard let change = try await tables?.apply(table, of: pipeline.guid, by: caller) else { continue }
                    changes.append(change)
                }
                try await runtime.roll(plans, guid: pipeline.guid)
            } catch {
                let error = await putBack(changes, because: error)
                try await deployFailed(pipeline, revision.spec.revisionNumber, error)
                throw error
            }
            let number = revision.spec.revisionNumber
            tell("Deployed", pipeline, "revision \(number) was deployed", by: caller, revision: number)
            let newest = try await self.revision(pipeline, pipeline.spec.lastRevisionNumber).spec.manifest
            return try await catalog.pipelines.update(pipeline.guid) { pipeline in
                pipeline.spec.status = .ready
                pipeline.spec.reason = Self.readyReason
                pipeline.spec.deployedRevisionNumber = revision.spec.revisionNumber
                pipeline.spec.deployedFunctionRevisions = Dictionary(
                    uniqueKeysWithValues: plans.map { ($0.name, $0.revision) }
                )
                pipeline.spec.uses = Self.uses(newest, revision.spec.manifest)
            }
        }
    }

    package func undeploy(_ id: String, by caller: Caller) async throws -> Resource<PipelineSpec> {
        let pipeline = try await catalog.pipelines.get(id)
        return try await runtime.exclusively(pipeline) {
            await runtime.stop(pipeline.guid)
            try await runtime.forget(pipeline.guid, topics: false)
            tell("Undeployed", pipeline, "it was undeployed", by: caller)
            let newest = try await revision(pipeline, pipeline.spec.lastRevisionNumber).spec.manifest
            return try await catalog.pipelines.update(pipeline.guid) { pipeline in
                pipeline.spec.status = .draft
                pipeline.spec.reason = nil
                pipeline.spec.deployedRevisionNumber = nil
                pipeline.spec.deployedFunctionRevisions = nil
                pipeline.spec.uses = Self.uses(newest)
            }
        }
    }

    package func pause(_ id: String, by caller: Caller) async throws -> Resource<PipelineSpec> {
        let pipeline = try await catalog.pipelines.get(id)
        guard pipeline.spec.deployedRevisionNumber != nil else { throw Self.notDeployed(pipeline) }
        return try await runtime.exclusively(pipeline) {
            await runtime.stop(pipeline.guid)
            tell("Paused", pipeline, "it was paused", by: caller)
            return try await set(pipeline.guid, .paused, reason: "Paused; events wait in their topics.")
        }
    }

    package func resume(_ id: String, by caller: Caller) async throws -> Resource<PipelineSpec> {
        let pipeline = try await catalog.pipelines.get(id)
        guard let number = pipeline.spec.deployedRevisionNumber else { throw Self.notDeployed(pipeline) }
        guard pipeline.spec.status == .paused else { return await shown(pipeline) }
        return try await runtime.exclusively(pipeline) {
            let revision = try await revision(pipeline, number)
            let plans = try await runningPlans(pipeline, revision)
            try await runtime.roll(plans, guid: pipeline.guid)
            tell("Resumed", pipeline, "it was resumed", by: caller)
            return try await set(pipeline.guid, .ready, reason: Self.readyReason)
        }
    }

    package func replay(_ id: String, from start: ReplayStart, by caller: Caller) async throws -> Int64 {
        let pipeline = try await catalog.pipelines.get(id)
        guard let number = pipeline.spec.deployedRevisionNumber else { throw Self.notDeployed(pipeline) }
        return try await runtime.exclusively(pipeline) {
            let revision = try await revision(pipeline, number)
            let plans = try await runningPlans(pipeline, revision)
            let wasRunning = !runtime.runners(pipeline.guid).isEmpty
            await runtime.stop(pipeline.guid)
            let count: Int64
            do { count = try await rewind(plans, to: start) } catch {
                if wasRunning { try await runtime.resume(plans, guid: pipeline.guid) }
                throw error
            }
            if wasRunning { try await runtime.resume(plans, guid: pipeline.guid) }
            return count
        }
    }

    package func deployments(_ id: String) async throws -> [DeploymentStatus] {
        let pipeline = try await catalog.pipelines.get(id)
        let runners = runtime.runners(pipeline.guid)
        var all = [DeploymentStatus]()
        for runner in runners { all.append(await runner.status()) }
        guard runners.isEmpty, let number = pipeline.spec.deployedRevisionNumber else { return all }
        for plan in try await runningPlans(pipeline, try await revision(pipeline, number)) {
            var waiting = DeploymentStatus(name: plan.name, function: plan.functionName, revision: plan.revision)
            waiting.lag = await DeploymentRunner.lag(of: plan, runtime.services.log)
            all.append(waiting)
        }
        return all
    }

    // MARK: Parts

    private static let readyReason = "Pipeline is ready and active."

    private static func notDeployed(_ pipeline: Resource<PipelineSpec>) -> ServiceError {
        ServiceError(
            .failedPrecondition,
            "pipeline '\(pipeline.name)' is not deployed",
            fix: "deploy it with: martlet pipelines deploy \(pipeline.name)"
        )
    }

    private static func uses(_ manifests: PipelineManifest?...) -> [ResourceReference] {
        var all = Set<ResourceReference>()
        for manifest in manifests.compactMap(\.self) {
            for trigger in manifest.triggers { all.insert(ResourceReference(kind: .triggers, name: trigger.trigger)) }
            for deployment in manifest.functionDeployments {
                all.insert(ResourceReference(kind: .functions, name: deployment.function))
                for secret in deployment.secrets { all.insert(ResourceReference(kind: .secrets, name: secret)) }
            }
            for secret in manifest.secrets { all.insert(ResourceReference(kind: .secrets, name: secret)) }
        }
        return all.sorted { ($0.kind.rawValue, $0.name) < ($1.kind.rawValue, $1.name) }
    }

    private static func addRevision(
        _ number: Int,
        of pipeline: Resource<PipelineSpec>,
        _ manifest: PipelineManifest,
        in tx: CatalogTransaction
    ) throws {
        let _: Resource<PipelineRevisionSpec> = try tx.create(
            name: "\(pipeline.name)@\(number)",
            owner: pipeline.metadata.owner,
            spec: PipelineRevisionSpec(
                pipelineName: pipeline.name,
                pipelineGuid: pipeline.guid,
                revisionNumber: number,
                manifest: manifest
            )
        )
    }

    /// The plans of what was deployed, with the function revisions decided then.
    private func runningPlans(
        _ pipeline: Resource<PipelineSpec>,
        _ revision: Resource<PipelineRevisionSpec>
    ) async throws -> [DeploymentPlan] {
        let graph = try PipelineGraph(revision.spec.manifest)
        return try await builder.plans(for: pipeline, graph, pinned: pipeline.spec.deployedFunctionRevisions ?? [:])
    }

    private func revision(_ pipeline: Resource<PipelineSpec>, _ number: Int) async throws -> Resource<
        PipelineRevisionSpec
    > {
        guard let found = try await catalog.pipelineRevisions.find(pipelineGuid: pipeline.guid, number: number) else {
            throw ServiceError(
                .notFound,
                "pipeline '\(pipeline.name)' has no revision \(number)",
                fix: "its newest is \(pipeline.spec.lastRevisionNumber)"
            )
        }
        return found
    }

    private func set(_ guid: String, _ status: PipelineSpec.Status, reason: String?) async throws -> Resource<
        PipelineSpec
    > {
        try await catalog.pipelines.update(guid) { pipeline in
            pipeline.spec.status = status
            pipeline.spec.reason = reason
        }
    }

    private func deployFailed(_ pipeline: Resource<PipelineSpec>, _ number: Int, _ error: any Error) async throws {
        let why = (error as? ServiceError)?.message ?? "\(error)"
        tell("DeployFailed", pipeline, "deploying revision \(number) failed: \(why)", .error, revision: number)
        if let running = pipeline.spec.deployedRevisionNumber, pipeline.spec.status == .ready {
            _ = try await set(
                pipeline.guid,
                .ready,
                reason: "Revision \(running) still runs; deploying revision \(number) failed: \(why)"
            )
        } else if pipeline.spec.status == .paused {
            _ = try await set(
                pipeline.guid,
                .paused,
                reason: "Paused; deploying revision \(number) failed: \(why)"
            )
        } else {
            _ = try await set(pipeline.guid, .failure, reason: why)
        }
    }

    /// Undoes what a deployment that failed did to tables, the last first.
    ///
    /// - Returns: The error with what became of the tables.
    private func putBack(_ changes: [ManifestTableChange], because error: any Error) async -> any Error {
        guard !changes.isEmpty else { return error }
        var told: [String] = []
        for change in changes.reversed() {
            let what = change.isNew ? "was made and is removed again" : "was changed and has its settings from before"
            do {
                let left = try await change.putBack()
                told.append("'\(change.table)' \(what)\(left.map { ", but \($0)" } ?? "")")
            } catch {
                let why = (error as? ServiceError)?.message ?? "\(error)"
                told.append("'\(change.table)' was \(change.isNew ? "made" : "changed") and stays so: \(why)")
            }
        }
        var failure = (error as? ServiceError) ?? ServiceError(.internal, "\(error)")
        failure.message += ". Of its tables, \(told.joined(separator: "; "))"
        return failure
    }

    /// The stored resource with what its deployments report.
    private func shown(_ pipeline: Resource<PipelineSpec>) async -> Resource<PipelineSpec> {
        guard pipeline.spec.status == .ready else { return pipeline }
        var shown = pipeline
        for runner in runtime.runners(pipeline.guid) {
            guard let reason = runner.reason else { continue }
            shown.spec.status = .failure
            shown.spec.reason = "\(runner.plan.name): \(reason)"
        }
        return shown
    }

    /// Tells of a step in the life of a pipeline.
    private func tell(
        _ action: String,
        _ pipeline: Resource<PipelineSpec>,
        _ what: String,
        _ severity: Severity = .info,
        by caller: Caller? = nil,
        revision: Int? = nil
    ) {
        var details: [String: String] = [:]
        if let caller { details["by"] = caller.name }
        if let revision { details["revision"] = "\(revision)" }
        runtime.services.telemetry.record(events: [
            EngineEvent(
                "Pipeline",
                action,
                pipeline.name,
                severity: severity,
                "pipeline '\(pipeline.name)': \(what)",
                pipeline: pipeline.name,
                details: details
            )
        ])
    }

    private func rewind(_ plans: [DeploymentPlan], to start: ReplayStart) async throws -> Int64 {
        let log = runtime.services.log
        let now = Timestamp.nowMicroseconds() / 1000
        var count: Int64 = 0
        for input in plans.flatMap(\.inputs) {
            guard case .source = input.filter, let topic = try await log.topic(input.topic) else { continue }
            var offsets: [TopicPartition: CommittedOffset] = [:]
            for number in 0..<topic.partitions {
                let partition = TopicPartition(topic: input.topic, partition: number)
                let bounds = try log.bounds(partition)
                let wanted: Int64
                switch start {
                case .offset(let offset): wanted = min(max(offset, bounds.start), bounds.end)
                case .time(let date):
                    let found = try await log.offset(partition, atOrAfter: Timestamp.microseconds(date) / 1000)
                    wanted = found?.offset ?? bounds.end
                }
                offsets[partition] = CommittedOffset(offset: wanted, committedAt: now)
                count += bounds.end - wanted
            }
            try await log.commit(group: input.group, offsets: offsets)
        }
        return count
    }
}
