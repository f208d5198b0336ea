// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
package import MartletCore

/// Writes manifests as YAML in one canonical form, which reads back as the same manifest.
package enum PipelineManifestWriter {
    /// The whole document, as `pipelines create --config` takes it.
    package static func yaml(
        name: String? = nil,
        description: String? = nil,
        tags: [String]? = nil,
        manifest: PipelineManifest
    ) -> String {
        var text = YAMLText()
        if let name { text.field("name", name) }
        if let description { text.field("description", description) }
        if let tags { text.list("tags", tags) }
        text.open("manifest")
        text.open("config")
        write(manifest.environmentVariables, to: &text)
        text.list("secrets", manifest.secrets)
        text.close()
        write(manifest.triggers, to: &text)
        text.entries("function_deployments", manifest.functionDeployments, write)
        text.entries("links", manifest.links, write)
        if !manifest.tables.isEmpty {
            text.entries("tables", manifest.tables) { table, text in
                // JSON is YAML, and every value of a table is short.
                for member in table.document.objectValue?.members ?? [] {
                    if case .string(let value) = member.value {
                        text.field(member.key, value)
                    } else {
                        text.raw(member.key, member.value.text)
                    }
                }
            }
        }
        text.close()
        return text.text
    }

    private static func write(_ variables: [PipelineManifest.EnvironmentVariable], to text: inout YAMLText) {
        text.entries("environment_variables", variables) { variable, text in
            text.field("name", variable.name)
            text.field("value", variable.value)
        }
    }

    private static func write(_ triggers: [PipelineManifest.TriggerInstance], to text: inout YAMLText) {
        text.entries("triggers", triggers) { trigger, text in
            text.field("name", trigger.name)
            text.field("vrn", ResourceName(kind: .triggers, name: trigger.trigger).description)
        }
    }

    private static func write(_ deployment: PipelineManifest.FunctionDeployment, to text: inout YAMLText) {
        text.field("name", deployment.name)
        text.field("function_vrn", ResourceName(kind: .functions, name: deployment.function).description)
        text.raw("revision", deployment.revision.map(String.init) ?? "current")
        text.open("config")
        text.field("log_level", deployment.logLevel)
        text.close()
        let resources = deployment.resources
        text.open("resources")
        text.raw("min_concurrency", "\(resources.minConcurrency)")
        text.raw("max_concurrency", "\(resources.maxConcurrency)")
        text.raw("autoscaling_rps_factor", "\(resources.autoscalingRpsFactor)")
        text.raw("min_cpu", DocumentQuantity.cpuText(resources.minCpuMillis))
        text.raw("max_cpu", DocumentQuantity.cpuText(resources.maxCpuMillis))
        text.raw("min_memory", DocumentQuantity.bytesText(resources.minMemoryBytes))
        text.raw("max_memory", DocumentQuantity.bytesText(resources.maxMemoryBytes))
        text.raw("storage", DocumentQuantity.bytesText(resources.storageBytes))
        text.raw("timeout", "\(resources.timeoutSeconds)")
        text.close()
        text.raw("worker_concurrency", "\(deployment.workerConcurrency)")
        text.raw("idle_seconds", "\(deployment.idleSeconds)")
        write(deployment.environmentVariables, to: &text)
        text.list("secrets", deployment.secrets)
    }

    private static func write(_ link: PipelineManifest.Link, to text: inout YAMLText) {
        text.list("source", link.source)
        text.list("destination", link.destination)
        if let topic = link.topic { text.field("topic", ResourceName(kind: .topics, name: topic).description) }
        if !link.labels.isEmpty {
            text.open("labels")
            for (name, value) in link.labels.sorted(by: { $0.key < $1.key }) { text.field(name, value) }
            text.close()
        }
        text.open("config")
        text.raw("retries", "\(link.retries)")
        text.field("events_order", link.eventsOrder.rawValue)
        if let batching = link.batching {
            text.open("batching")
            text.raw("size", "\(batching.size)")
            text.raw("timeout", "\(batching.timeoutMilliseconds)ms")
            text.close()
        }
        text.close()
    }
}
