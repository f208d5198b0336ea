// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// Everything one function deployment of a deployed pipeline needs to run; made from the manifest, never changed while it runs.
package struct DeploymentPlan: Sendable {
    /// One source of events: a topic read by a consumer group of this deployment's own.
    package struct Input: Sendable {
        /// Which records of the topic are meant for this deployment.
        package enum Filter: Sendable, Equatable {
            /// Events whose `source` is this, with these labels.
            case source(String, labels: [String: String])
            /// Outputs of another deployment, with these labels.
            case labels([String: String])
            /// Redriven dead letters of this deployment.
            case redrive(deployment: String)
        }

        /// Instance name of the source in the manifest; `redrive` for dead letters put back.
        package var source: String
        package var topic: String
        package var group: String
        package var filter: Filter
        /// Attempts after the first.
        package var retries: Int
        package var isOrdered: Bool
        package var batching: PipelineManifest.Batching?

        package init(
            source: String,
            topic: String,
            group: String,
            filter: Filter,
            retries: Int,
            isOrdered: Bool,
            batching: PipelineManifest.Batching?
        ) {
            self.source = source
            self.topic = topic
            self.group = group
            self.filter = filter
            self.retries = retries
            self.isOrdered = isOrdered
            self.batching = batching
        }
    }

    package var pipelineName: String
    package var pipelineGuid: String
    package var name: String
    package var functionName: String
    package var revision: Int
    package var bundleDigest: String
    package var logLevel: String
    package var resources: PipelineManifest.Resources
    package var environment: [PipelineManifest.EnvironmentVariable]
    package var secrets: [String]
    package var workerConcurrency: Int
    package var idleSeconds: Int
    package var inputs: [Input]
    /// Topic of this deployment's results; nil where no link leaves it.
    package var outputTopic: String?
    /// Names of the deployments behind it, with the labels of the links there.
    package var downstream: [String: [String: String]]

    package init(
        pipelineName: String,
        pipelineGuid: String,
        deployment: PipelineManifest.FunctionDeployment,
        revision: Int,
        bundleDigest: String,
        environment: [PipelineManifest.EnvironmentVariable],
        secrets: [String],
        inputs: [Input],
        outputTopic: String?,
        downstream: [String: [String: String]]
    ) {
        self.pipelineName = pipelineName
        self.pipelineGuid = pipelineGuid
        name = deployment.name
        functionName = deployment.function
        self.revision = revision
        self.bundleDigest = bundleDigest
        logLevel = deployment.logLevel
        resources = deployment.resources
        self.environment = environment
        self.secrets = secrets
        workerConcurrency = deployment.workerConcurrency
        idleSeconds = deployment.idleSeconds
        self.inputs = inputs
        self.outputTopic = outputTopic
        self.downstream = downstream
    }
}
