// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A pipeline's graph in canonical form: names resolved, defaults filled, order as written.
package struct PipelineManifest: Codable, Sendable, Equatable {
    /// A variable given to workers.
    package struct EnvironmentVariable: Codable, Sendable, Equatable {
        package var name: String
        package var value: String

        package init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    /// One use of a trigger.
    package struct TriggerInstance: Codable, Sendable, Equatable {
        /// Unique in the pipeline.
        package var name: String
        /// The trigger resource's name.
        package var trigger: String

        package init(name: String, trigger: String) {
            self.name = name
            self.trigger = trigger
        }
    }

    /// How a function deployment is sized; CPU in thousandths of a core, sizes in bytes.
    package struct Resources: Codable, Sendable, Equatable {
        package var minConcurrency = 1
        package var maxConcurrency = 10
        package var minCpuMillis = 100
        package var maxCpuMillis = 500
        package var minMemoryBytes: Int64 = 128 << 20
        package var maxMemoryBytes: Int64 = 256 << 20
        package var storageBytes: Int64 = 0
        package var autoscalingRpsFactor = 10
        /// Limit of one handler call, 1...3600.
        package var timeoutSeconds = 60

        package init() {}
    }

    /// One use of a function revision with its own settings.
    package struct FunctionDeployment: Codable, Sendable, Equatable {
        package var name: String
        /// The function resource's name.
        package var function: String
        /// Nil means the function's default revision at deploy time.
        package var revision: Int?
        /// NOTSET, DEBUG, INFO, WARNING, ERROR or CRITICAL.
        package var logLevel = "INFO"
        package var resources = Resources()
        package var environmentVariables: [EnvironmentVariable] = []
        package var secrets: [String] = []
        /// Handler calls one worker runs at once.
        package var workerConcurrency = 20
        /// Idle time after which workers above `minConcurrency` stop.
        package var idleSeconds = 60

        package init(name: String, function: String, revision: Int? = nil) {
            self.name = name
            self.function = function
            self.revision = revision
        }
    }

    /// Grouping of events into one call of a batch handler.
    package struct Batching: Codable, Sendable, Equatable {
        /// Events in a call, 1...10_000.
        package var size: Int
        /// Longest wait for a full batch, milliseconds.
        package var timeoutMilliseconds: Int

        package init(size: Int, timeoutMilliseconds: Int) {
            self.size = size
            self.timeoutMilliseconds = timeoutMilliseconds
        }
    }

    /// Edges from every source to every destination.
    package struct Link: Codable, Sendable, Equatable {
        /// Delivery order.
        package enum Order: String, Codable, Sendable {
            case ordered
            case unordered
        }

        package var source: [String]
        package var destination: [String]
        /// Topic name where the manifest gives one.
        package var topic: String?
        /// Attempts after the first, 0...10.
        package var retries = 3
        package var eventsOrder = Order.unordered
        /// All pairs must be among the event's labels; empty matches every event.
        package var labels: [String: String] = [:]
        package var batching: Batching?

        package init(source: [String], destination: [String]) {
            self.source = source
            self.destination = destination
        }
    }

    package var environmentVariables: [EnvironmentVariable] = []
    package var secrets: [String] = []
    package var triggers: [TriggerInstance] = []
    package var functionDeployments: [FunctionDeployment] = []
    package var links: [Link] = []
    /// Tables of topics that deploying makes, or changes where they exist.
    package var tables: [Table] = []

    package init() {}

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        environmentVariables = try container.decode([EnvironmentVariable].self, forKey: .environmentVariables)
        secrets = try container.decode([String].self, forKey: .secrets)
        triggers = try container.decode([TriggerInstance].self, forKey: .triggers)
        functionDeployments = try container.decode([FunctionDeployment].self, forKey: .functionDeployments)
        links = try container.decode([Link].self, forKey: .links)
        // Manifests stored before there were tables have none.
        tables = try container.decodeIfPresent([Table].self, forKey: .tables) ?? []
    }
}
