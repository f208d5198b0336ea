// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation
package import MartletCore

/// What the API serves; it knows nothing about what stands behind these.
package struct Services: Sendable {
    /// Views and elements.
    package var views: any ViewServices
    /// Triggers.
    package var triggers: any TriggerServices
    /// Functions, revisions and bundles.
    package var functions: any FunctionServices
    /// Pipelines.
    package var pipelines: any PipelineServices
    /// Topics.
    package var topics: any TopicServices
    /// Secrets.
    package var secrets: any SecretServices
    /// Dead letters.
    package var deadLetters: any DeadLetterServices
    /// Tables and SQL.
    package var tables: any TableServices
    /// SQL statements that run on their own.
    package var statements: any StatementServices
    /// Logs and traces.
    package var telemetry: any TelemetryServices
    /// The engine itself.
    package var engine: any EngineServices
    /// What takes OpenTelemetry's exports; nil leaves its paths out.
    package var otlp: (any OTLPServices)?
    /// Consumer groups; nil leaves their paths out.
    package var groups: (any GroupServices)?
    /// Readers of consumer groups; nil leaves their paths out.
    package var groupReaders: (any GroupReaderServices)?
    /// Records of topics; nil leaves their paths out.
    package var records: (any RecordServices)?
    /// Users and access rules of the Kafka door; nil leaves their paths out.
    package var kafkaAccess: (any KafkaAccessServices)?

    /// Names what is served.
    package init(
        views: any ViewServices,
        triggers: any TriggerServices,
        functions: any FunctionServices,
        pipelines: any PipelineServices,
        topics: any TopicServices,
        secrets: any SecretServices,
        deadLetters: any DeadLetterServices,
        tables: any TableServices,
        statements: any StatementServices,
        telemetry: any TelemetryServices,
        engine: any EngineServices,
        otlp: (any OTLPServices)? = nil,
        groups: (any GroupServices)? = nil,
        groupReaders: (any GroupReaderServices)? = nil,
        records: (any RecordServices)? = nil,
        kafkaAccess: (any KafkaAccessServices)? = nil
    ) {
        self.views = views
        self.triggers = triggers
        self.functions = functions
        self.pipelines = pipelines
        self.topics = topics
        self.secrets = secrets
        self.deadLetters = deadLetters
        self.tables = tables
        self.statements = statements
        self.telemetry = telemetry
        self.engine = engine
        self.otlp = otlp
        self.groups = groups
        self.groupReaders = groupReaders
        self.records = records
        self.kafkaAccess = kafkaAccess
    }
}

/// What the engine says about itself.
package protocol EngineServices: Sendable {
    /// Version, place and health of the engine.
    func status() async -> EngineStatus
    /// Why the engine cannot work yet, one sentence each; empty when it is ready.
    func obstacles() async -> [String]
}

/// Version, place and health of the engine.
package struct EngineStatus: Codable, Sendable, Equatable {
    /// Something on disk that cannot be read.
    package struct Damage: Codable, Sendable, Equatable {
        /// What is damaged, for example a topic's partition and offset.
        package var what: String
        /// The file.
        package var path: String
        /// What was found.
        package var message: String

        /// Makes a finding.
        package init(what: String, path: String, message: String) {
            self.what = what
            self.path = path
            self.message = message
        }
    }

    /// Version of Martlet.
    package var version: String
    /// Version of the DuckDB library in use; nil where none is loaded.
    package var duckdbVersion: String?
    /// When the engine became ready.
    package var startedAt: Date
    /// Absolute path of the data directory.
    package var dataDirectory: String
    /// What was found damaged; empty when all is well.
    package var damage: [Damage]
    /// Host and port of the gRPC server; nil where there is none.
    package var grpcAddress: String?
    /// Host and port for Kafka's clients; nil where there is no door for them.
    package var kafkaAddress: String?
    /// Why functions can neither be built nor run, and what to do; nil where they can.
    package var functionsObstacle: String?

    /// Makes a status.
    package init(
        version: String,
        duckdbVersion: String?,
        startedAt: Date,
        dataDirectory: String,
        damage: [Damage] = [],
        grpcAddress: String? = nil,
        kafkaAddress: String? = nil,
        functionsObstacle: String? = nil
    ) {
        self.version = version
        self.duckdbVersion = duckdbVersion
        self.startedAt = startedAt
        self.dataDirectory = dataDirectory
        self.damage = damage
        self.grpcAddress = grpcAddress
        self.kafkaAddress = kafkaAddress
        self.functionsObstacle = functionsObstacle
    }
}
