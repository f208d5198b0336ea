// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation

/// How one function deployment of a running pipeline does.
package struct DeploymentStatus: Sendable, Codable, Equatable {
    package var name: String
    package var function: String
    package var revision: Int
    package var workers: Int
    package var workersReady: Int
    package var inFlight: Int
    /// Records not yet processed.
    package var lag: Int64
    package var succeeded: Int64
    package var failed: Int64
    package var retried: Int64
    package var deadLettered: Int64
    /// Why workers do not start, where they do not.
    package var reason: String?

    package init(name: String, function: String, revision: Int) {
        self.name = name
        self.function = function
        self.revision = revision
        workers = 0
        workersReady = 0
        inFlight = 0
        lag = 0
        succeeded = 0
        failed = 0
        retried = 0
        deadLettered = 0
    }
}

/// Where a replay starts.
package enum ReplayStart: Sendable, Equatable {
    case time(Date)
    case offset(Int64)
}

/// Pipelines, their revisions and what runs of them.
package protocol PipelineServices: ResourceService<PipelineSpec> {
    func revisions(_ pipeline: String) async throws -> [Resource<PipelineRevisionSpec>]
    /// The newest stored manifest, or the one that runs.
    func manifest(_ pipeline: String, deployed: Bool) async throws -> Resource<PipelineRevisionSpec>
    /// Rolls out the newest manifest, or `revision`.
    func deploy(_ pipeline: String, revision: Int?, by caller: Caller) async throws -> Resource<PipelineSpec>
    func undeploy(_ pipeline: String, by caller: Caller) async throws -> Resource<PipelineSpec>
    func pause(_ pipeline: String, by caller: Caller) async throws -> Resource<PipelineSpec>
    func resume(_ pipeline: String, by caller: Caller) async throws -> Resource<PipelineSpec>
    /// Sends the trigger topics' records from `start` through the pipeline again.
    ///
    /// - Returns: How many records will be delivered again.
    func replay(_ pipeline: String, from start: ReplayStart, by caller: Caller) async throws -> Int64
    func deployments(_ pipeline: String) async throws -> [DeploymentStatus]
    /// Removes a pipeline; with `tables` also the tables that its newest and its running manifest declare, rows and all.
    ///
    /// - Throws: `ServiceError` `.inUse` for a table that another pipeline declares too, before anything is removed.
    func delete(_ pipeline: String, tables: Bool, by caller: Caller) async throws
}

/// An event that could not be processed.
package struct DeadLetter: Sendable {
    /// `<partition>-<offset>` in the dead-letter topic.
    package var id: String
    package var at: Date
    package var pipeline: String
    package var deployment: String
    package var error: String
    package var errorType: String
    package var traceback: String?
    package var attempts: Int
    package var originTopic: String
    package var originPartition: Int32
    package var originOffset: Int64
    package var traceID: String?
    package var event: CloudEvent
    /// Whether it was put back.
    package var redriven: Bool

    package init(
        id: String,
        at: Date,
        pipeline: String,
        deployment: String,
        error: String,
        errorType: String,
        traceback: String?,
        attempts: Int,
        originTopic: String,
        originPartition: Int32,
        originOffset: Int64,
        traceID: String?,
        event: CloudEvent,
        redriven: Bool
    ) {
        self.id = id
        self.at = at
        self.pipeline = pipeline
        self.deployment = deployment
        self.error = error
        self.errorType = errorType
        self.traceback = traceback
        self.attempts = attempts
        self.originTopic = originTopic
        self.originPartition = originPartition
        self.originOffset = originOffset
        self.traceID = traceID
        self.event = event
        self.redriven = redriven
    }
}

/// The dead-letter topic, as people work with it.
package protocol DeadLetterServices: Sendable {
    /// Newest first.
    func list(pipeline: String?, limit: Int, cursor: String?) async throws -> Page<DeadLetter>
    func get(_ id: String) async throws -> DeadLetter
    /// Puts events back before the deployment that failed them; ids or all of a pipeline.
    ///
    /// - Returns: How many were put back.
    func redrive(ids: [String], pipeline: String?, by caller: Caller) async throws -> Int
}
