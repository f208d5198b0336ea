// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Catalog
package import EventLog
package import Logging
package import MartletCore
import Synchronization

/// Runs all views and triggers of the catalog.
package final class TriggerRuntime: Sendable {
    private struct State {
        var isRunning = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    /// What views and triggers say of themselves.
    package let board = StatusBoard()
    private let context: TriggerContext
    private let state = Mutex(State())
    private let reloads: AsyncStream<Void>
    private let noteReload: AsyncStream<Void>.Continuation

    /// Makes a runtime; nothing starts before ``run()``.
    package init(
        catalog: Catalog,
        inventory: ElementInventory,
        log: any EventLog,
        producer: RecordProducer,
        telemetry: any TelemetrySink,
        settings: TriggerSettings = TriggerSettings(),
        clock: any TriggerClock = SystemClock(),
        logger: Logger,
        metrics: MetricRegistry = MetricRegistry()
    ) {
        context = TriggerContext(
            settings: settings,
            catalog: catalog,
            inventory: inventory,
            log: log,
            producer: producer,
            telemetry: telemetry,
            clock: clock,
            board: board,
            logger: logger,
            metrics: metrics
        )
        (reloads, noteReload) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// Watches views and fires triggers until the task is cancelled.
    ///
    /// - Throws: What the catalog throws at the start; later failures are logged, shown in the status and tried again.
    package func run() async throws {
        let runners = RunnerSet(context)
        try await withThrowingDiscardingTaskGroup { group in
            state.withLock { $0.isRunning = true }
            defer { end() }
            try await apply(runners, &group)
            for await _ in reloads {
                let waiting = state.withLock { state in
                    defer { state.waiting = [] }
                    return state.waiting
                }
                do {
                    try await apply(runners, &group)
                } catch {
                    context.logger.error("views and triggers could not be read again", metadata: ["error": "\(error)"])
                    retryLater(&group)
                }
                for continuation in waiting { continuation.resume() }
            }
            group.cancelAll()
        }
    }

    /// Takes up what changed in the catalog; on return new triggers see what happens from now on.
    package func reload() async {
        await withCheckedContinuation { continuation in
            let isWaiting = state.withLock { state in
                if state.isRunning { state.waiting.append(continuation) }
                return state.isRunning
            }
            if isWaiting { noteReload.yield() } else { continuation.resume() }
        }
    }

    private func end() {
        let waiting = state.withLock { state in
            state.isRunning = false
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    private func retryLater(_ group: inout ThrowingDiscardingTaskGroup<any Error>) {
        let delay = context.settings.retryDelayMax
        group.addTask { [noteReload] in
            try? await Task.sleep(for: delay)  // Cancelled only when everything ends.
            noteReload.yield()
        }
    }

    /// Starts, changes and stops runners so that they are what the catalog says.
    private func apply(_ runners: RunnerSet, _ group: inout ThrowingDiscardingTaskGroup<any Error>) async throws {
        let views = try await context.catalog.views.all()
        let triggers = try await context.catalog.triggers.all().map(ActiveTrigger.init)
        for runner in runners.stopGone(views: views, triggers: triggers) { group.addTask { await runner() } }
        for view in views {
            let own = triggers.filter { $0.spec.type == .element && $0.spec.sourceBucketName == view.name }
            if let runner = runners.views[view.guid] {
                do {
                    try await runner.install(own)
                } catch {
                    for trigger in own {
                        board.set(
                            trigger: trigger.guid,
                            reason: "the trigger could not be started and is tried again: \(error)"
                        )
                    }
                    context.logger.error(
                        "triggers of a view failed",
                        metadata: ["view": "\(view.name)", "error": "\(error)"]
                    )
                    retryLater(&group)
                }
            } else {
                let runner = ViewRunner(view, triggers: own, context: context)
                runners.views[view.guid] = runner
                group.addTask { await runner.run() }
            }
        }
        for trigger in triggers where trigger.spec.type == .schedule && runners.schedules[trigger.guid] == nil {
            let runner = ScheduleRunner(trigger, context: context)
            runners.schedules[trigger.guid] = runner
            group.addTask { await runner.run() }
        }
    }
}

/// The runners there are; used by the runtime's task only.
private final class RunnerSet {
    var views: [String: ViewRunner] = [:]
    var schedules: [String: ScheduleRunner] = [:]
    private let context: TriggerContext

    init(_ context: TriggerContext) {
        self.context = context
    }

    /// Stops runners whose view or trigger is gone or, for schedules, changed; returns what has to be cleaned up.
    func stopGone(views current: [Resource<ViewSpec>], triggers: [ActiveTrigger]) -> [@Sendable () async -> Void] {
        var cleanups: [@Sendable () async -> Void] = []
        let context = context
        for (guid, runner) in views
        where !current.contains(where: { $0.guid == guid && $0.spec.path == runner.view.spec.path }) {
            views.removeValue(forKey: guid)
            runner.stopSignal.stop()
            cleanups.append {
                await runner.retrying("forget a deleted view") { try await context.inventory.removeView(guid) }
            }
        }
        for (guid, runner) in schedules where !triggers.contains(where: { $0.isSame(as: runner.trigger) }) {
            schedules.removeValue(forKey: guid)
            runner.stopSignal.stop()
            guard !triggers.contains(where: { $0.guid == guid }) else { continue }
            context.board.set(trigger: guid, reason: nil)
            cleanups.append {
                do {
                    try await context.catalog.state.set(ScheduleRunner.stateKey(guid), nil)
                } catch {
                    context.logger.warning("progress of a deleted schedule stays", metadata: ["error": "\(error)"])
                }
            }
        }
        return cleanups
    }
}
