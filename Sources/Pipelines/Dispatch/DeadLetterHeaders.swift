// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Names of the record headers a dead letter carries beside its event.
enum DeadLetterHeaders {
    static let pipeline = "martlet-dead-letter-pipeline"
    static let pipelineGuid = "martlet-dead-letter-pipeline-guid"
    static let deployment = "martlet-dead-letter-deployment"
    static let error = "martlet-dead-letter-error"
    static let errorType = "martlet-dead-letter-error-type"
    static let traceback = "martlet-dead-letter-traceback"
    static let attempts = "martlet-dead-letter-attempts"
    static let topic = "martlet-dead-letter-topic"
    static let partition = "martlet-dead-letter-partition"
    static let offset = "martlet-dead-letter-offset"
    static let trace = "martlet-dead-letter-trace"
    /// On a redriven record: the deployment it is for.
    static let redriveTo = "martlet-redrive-to"
    static let prefix = "martlet-dead-letter-"
    /// Type of the error where the letter stands for records that cannot be read, so that there is no event.
    static let unreadable = "UnreadableRecords"
}
