// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import KafkaCodec
package import Workers

/// What the dispatch core reacts to.
package enum DispatchInput: Sendable {
    /// Records of a partition, in order; offsets up to `next` that are not among them hold nothing for this deployment.
    ///
    /// A record whose offset is in `unreadable` is empty and stands for those that could not be read, for the reason there.
    case fetched(input: Int, partition: Int32, records: [RecordView], next: Int64, unreadable: [Int64: String] = [:])
    case worker(id: String, WorkerEvent)
    /// A worker could not even be described: the bundle is gone, a secret is missing.
    case workerNotStarted(id: String, reason: String)
    /// Outputs of these events are durable, or an error says why not.
    case published([Int], error: String?)
    /// Outputs of this event can never be written: they are too large for the topic.
    case unpublishable(Int, reason: String)
    /// These events are durable in the dead-letter topic, or an error says why not.
    case deadLettered([Int], error: String?)
    /// Why a topic cannot be read, or nil once all can.
    case inputs(reason: String?)
    case tick
    /// Take nothing new; finish what workers hold.
    case drain
}

/// What the dispatch core wants done, in order.
package enum DispatchEffect: Sendable {
    case startWorker(id: String)
    case stopWorker(id: String)
    case killWorker(id: String, WorkerExit.Cause)
    case send(worker: String, request: Int, events: [PendingEvent])
    case publish([(id: Int, event: PendingEvent, outputs: [InvocationResult.Output])])
    case deadLetter([(id: Int, event: PendingEvent, failure: InvocationResult.Failure)])
    case finished([FinishedAttempt])
    case workerFailed(WorkerFailure)
    case workerCrashed(WorkerExit)
    case gate(open: Bool)
}

/// One attempt that ended, for spans, logs and counters.
package struct FinishedAttempt: Sendable {
    package var event: PendingEvent
    package var result: InvocationResult
    package var isLastAttempt: Bool
}
