// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import MartletCore

/// A refusal in the protocol's words.
struct TopicRefusal: Error {
    let code: KafkaErrorCode
    let message: String

    init(_ code: KafkaErrorCode, _ message: String) {
        self.code = code
        self.message = message
    }

    /// No access rule allows it.
    static let notAllowed = TopicRefusal(.topicAuthorizationFailed, "no access rule allows it")

    /// Finds the code for a service's or the log's error.
    init(_ error: any Error) {
        switch error {
        case let refusal as TopicRefusal: self = refusal
        case let error as EventLogError: self.init(error.kafkaCode, error.message)
        case let error as ServiceError:
            self.init(error.kafkaCode, error.fix.map { "\(error.message); \($0)" } ?? error.message)
        default: self.init(.unknownServerError, "\(error)")
        }
    }
}

extension EventLogError {
    /// The protocol's code for it.
    var kafkaCode: KafkaErrorCode {
        switch code {
        case .topicExists: .topicAlreadyExists
        case .unknownTopic, .unknownPartition: .unknownTopicOrPartition
        case .invalidTopicName: .invalidTopicException
        case .invalidSettings: .invalidConfig
        case .offsetOutOfRange: .offsetOutOfRange
        case .corruptBatch: .corruptMessage
        case .invalidRecord: .invalidRecord
        case .invalidTimestamp: .invalidTimestamp
        case .outOfOrderSequence: .outOfOrderSequenceNumber
        case .unknownProducer: .unknownProducerId
        case .invalidProducerEpoch: .invalidProducerEpoch
        case .invalidTransactionState: .invalidTxnState
        case .coordinatorFenced: .transactionCoordinatorFenced
        case .messageTooLarge: .messageTooLarge
        case .diskFull, .partitionStopped, .inputOutput: .kafkaStorageError
        // Not the storage's code, on which consumers would ask for the same offset for ever.
        case .damaged: .corruptMessage
        // Clients of every API ask where the leader is and try again.
        case .overloaded, .closed: .notLeaderOrFollower
        case .dataDirectoryInUse, .unsupportedFormat: .unknownServerError
        }
    }
}

extension ServiceError {
    /// The protocol's code for it, for operations on topics.
    var kafkaCode: KafkaErrorCode {
        switch code {
        case .invalid: .invalidRequest
        case .notFound: .unknownTopicOrPartition
        case .alreadyExists: .topicAlreadyExists
        case .inUse, .failedPrecondition: .policyViolation
        case .unauthenticated: .saslAuthenticationFailed
        case .forbidden: .topicAuthorizationFailed
        case .tooLarge: .messageTooLarge
        case .unavailable: .coordinatorNotAvailable
        case .timeout: .requestTimedOut
        case .storageFull, .storageFailed: .kafkaStorageError
        case .internal: .unknownServerError
        }
    }
}
