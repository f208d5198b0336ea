// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import EventLog
import Foundation
import Logging
import MartletCore
import Triggers

/// Runs views and triggers on a data directory until it is killed; for tests of that.
///
/// Arguments: the data directory and the view's directory.
let arguments = CommandLine.arguments
guard arguments.count == 3 else {
    print("usage: TriggersCrashWriter DATA-DIRECTORY VIEW-DIRECTORY")
    exit(64)
}
let data = arguments[1]
let logger = Logger(label: "crash-writer") { StreamLogHandler.standardError(label: $0) }

struct NoTelemetry: TelemetrySink {
    func record(spans: [SpanRecord]) {}
    func record(logs: [LogRecord]) {}
    func record(metrics: [MetricPoint]) {}
}

let catalog = try Catalog.open(path: "\(data)/catalog.sqlite")
let inventory = try ElementInventory.open(path: "\(data)/inventory.sqlite", durability: .full)
let log = try await LocalLog.open(directory: data, logger: logger)
let owner = ResourceMetadata.Owner(name: "test")
for topic in ["one", "two"] {
    if log.topic(topic) == nil { try await log.createTopic(topic, partitions: 3, settings: TopicSettings()) }
    if try await catalog.topics.find(topic) == nil {
        _ = try await catalog.topics.create(name: topic, owner: owner, spec: TopicSpec(partitions: 3))
    }
}
if try await catalog.views.find("v") == nil {
    _ = try await catalog.views.create(name: "v", owner: owner, spec: ViewSpec(path: arguments[2]))
}
let all = ["ObjectCreated:*", "ObjectRemoved:*", "ObjectTagging:Put", "ObjectTagging:Delete"]
for (name, topic) in [("first", "one"), ("second", "two")] where try await catalog.triggers.find(name) == nil {
    _ = try await catalog.triggers.create(
        name: name,
        owner: owner,
        spec: TriggerSpec(type: .element, sourceBucketName: "v", events: all, topicName: topic)
    )
}
let runtime = TriggerRuntime(
    catalog: catalog,
    inventory: inventory,
    log: log,
    producer: RecordProducer(log: log),
    telemetry: NoTelemetry(),
    logger: logger
)
print("running")
try await runtime.run()
