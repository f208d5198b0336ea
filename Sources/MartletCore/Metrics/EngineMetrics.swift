// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// The metrics the engine records about itself; docs/metrics.md lists them.
package enum EngineMetrics {
    // MARK: Events and functions

    /// From an event's own time to its arrival at a function's dispatcher.
    package static let receptionLatency = MetricDefinition(
        "dataengine.event.reception_latency",
        .histogram,
        unit: "ms",
        "From an event's own time to its arrival at the function's dispatcher.",
        scale: 1000
    )
    /// Events that arrived at function deployments.
    package static let events = MetricDefinition(
        "dataengine.event.total",
        .counter,
        unit: "{event}",
        "Events that arrived at a function's dispatcher."
    )
    /// Calls of handlers that ended.
    package static let invocations = MetricDefinition(
        "dataengine.function.invocations",
        .counter,
        unit: "{invocation}",
        "Calls of the handler that ended, every attempt counted."
    )
    /// How long handlers ran.
    package static let invokeDuration = MetricDefinition(
        "dataengine.function.invoke_duration",
        .histogram,
        unit: "ms",
        "Time in the handler, every attempt counted.",
        scale: 1000
    )
    /// Calls of handlers that failed.
    package static let errors = MetricDefinition(
        "dataengine.function.errors",
        .counter,
        unit: "{error}",
        "Calls of the handler that raised, timed out or took their worker down."
    )
    /// Attempts that will be made again.
    package static let retries = MetricDefinition(
        "martlet.deployment.retries",
        .counter,
        unit: "{retry}",
        "Failed attempts after which another is made."
    )
    /// Events given up.
    package static let deadLetters = MetricDefinition(
        "martlet.deployment.dead_letters",
        .counter,
        unit: "{event}",
        "Events given up and written to the dead-letter topic."
    )
    /// Events a deployment holds that no worker has.
    package static let queueDepth = MetricDefinition(
        "martlet.deployment.queue_depth",
        .gauge,
        unit: "{event}",
        "Events read and held by the dispatcher, not with a worker: waiting, or until their next attempt."
    )
    /// Events workers hold.
    package static let inFlight = MetricDefinition(
        "martlet.deployment.in_flight",
        .gauge,
        unit: "{event}",
        "Events that workers have."
    )
    /// Worker processes.
    package static let workers = MetricDefinition(
        "martlet.deployment.workers",
        .gauge,
        unit: "{worker}",
        "Worker processes, starting ones included."
    )

    // MARK: Topics and groups

    /// Records appended to a topic.
    package static let topicRecords = MetricDefinition(
        "martlet.topic.appended_records",
        .counter,
        unit: "{record}",
        "Records appended to the topic."
    )
    /// Bytes appended to a topic.
    package static let topicBytes = MetricDefinition(
        "martlet.topic.appended",
        .counter,
        unit: "By",
        "Bytes appended to the topic, as stored."
    )
    /// Sum of a topic's end offsets.
    package static let topicEnd = MetricDefinition(
        "martlet.topic.end_offset",
        .gauge,
        unit: "{record}",
        "Offset the next record gets, summed over the topic's partitions."
    )
    /// Bytes a topic takes on disk.
    package static let topicSize = MetricDefinition(
        "martlet.topic.size",
        .gauge,
        unit: "By",
        "Bytes of the topic's segments on disk."
    )
    /// Records a group has not processed.
    package static let groupLag = MetricDefinition(
        "martlet.group.lag",
        .gauge,
        unit: "{record}",
        "Records of the topic that the consumer group has not processed."
    )
    /// Age of the oldest record a group has not processed.
    package static let groupLagSeconds = MetricDefinition(
        "martlet.group.lag_time",
        .gauge,
        unit: "s",
        "Age of the oldest record the consumer group has not processed; 0 without lag."
    )
    /// From an append's arrival to its answer.
    package static let appendLatency = MetricDefinition(
        "martlet.log.append_latency",
        .histogram,
        unit: "ms",
        "From the arrival of a batch at the log to its answer: the wait, the write and the flush.",
        scale: 1000
    )
    /// How long flushes took.
    package static let flushLatency = MetricDefinition(
        "martlet.log.fsync_latency",
        .histogram,
        unit: "ms",
        "Time of one fdatasync of a segment.",
        scale: 1000
    )

    // MARK: Tables

    /// Rows functions wrote.
    package static let tableRows = MetricDefinition(
        "martlet.table.rows",
        .counter,
        unit: "{row}",
        "Rows committed to the table; the label operation says upserted or deleted."
    )
    /// How long commits took.
    package static let tableCommitDuration = MetricDefinition(
        "martlet.table.commit_duration",
        .histogram,
        unit: "ms",
        "From a commit's arrival to its rows being on disk.",
        scale: 1000
    )

    // MARK: Triggers

    /// Changes seen in views.
    package static let elementsSeen = MetricDefinition(
        "martlet.trigger.elements",
        .counter,
        unit: "{change}",
        "Changes of elements seen in the view."
    )
    /// Events of triggers.
    package static let eventsSent = MetricDefinition(
        "martlet.trigger.events",
        .counter,
        unit: "{event}",
        "Events the trigger wrote to its topic."
    )

    // MARK: The engine

    /// Bytes in use on the data directory's file system.
    package static let diskUsed = MetricDefinition(
        "martlet.disk.used",
        .gauge,
        unit: "By",
        "Bytes in use on the file system of the data directory."
    )
    /// Bytes free on the data directory's file system.
    package static let diskFree = MetricDefinition(
        "martlet.disk.free",
        .gauge,
        unit: "By",
        "Bytes the engine can still write on the file system of the data directory."
    )
    /// Memory of the engine's process.
    package static let processMemory = MetricDefinition(
        "martlet.process.memory",
        .gauge,
        unit: "By",
        "Resident memory of the engine, without workers."
    )
    /// Processor time of the engine's process.
    package static let processTime = MetricDefinition(
        "martlet.process.cpu_time",
        .counter,
        unit: "s",
        "Processor time of the engine, without workers."
    )
    /// Open files of the engine's process.
    package static let processFiles = MetricDefinition(
        "martlet.process.open_files",
        .gauge,
        unit: "{file}",
        "Open files and sockets of the engine."
    )
    /// Telemetry that waits to be written.
    package static let telemetryQueue = MetricDefinition(
        "martlet.telemetry.queue_depth",
        .gauge,
        unit: "{record}",
        "Logs, spans and points that wait to be written."
    )
    /// Telemetry that was lost.
    package static let telemetryDropped = MetricDefinition(
        "martlet.telemetry.dropped",
        .counter,
        unit: "{record}",
        "Logs, spans and points dropped because more came than could be written."
    )
    /// Logins of Kafka's clients.
    package static let kafkaLogins = MetricDefinition(
        "martlet.kafka.logins",
        .counter,
        unit: "{login}",
        "Logins of Kafka's clients, by mechanism and outcome."
    )
    /// Requests of Kafka's clients that a rule, or the lack of one, kept from something.
    package static let kafkaDenials = MetricDefinition(
        "martlet.kafka.denials",
        .counter,
        unit: "{denial}",
        "What access rules kept Kafka's clients from, by kind of resource and operation."
    )

    /// All of them, the built-in ones of the data engine first.
    package static let all = [
        events, receptionLatency, invocations, invokeDuration, errors, retries, deadLetters, queueDepth, inFlight,
        workers, topicRecords, topicBytes, topicEnd, topicSize, groupLag, groupLagSeconds, appendLatency, flushLatency,
        tableRows, tableCommitDuration, elementsSeen, eventsSent, diskUsed, diskFree, processMemory, processTime,
        processFiles, telemetryQueue, telemetryDropped, kafkaLogins, kafkaDenials,
    ]
}
