// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import EventLog
import Lake
import MartletCore

extension Error {
    /// Any error of a module as the services' own, so that every door answers it alike.
    var asServiceError: ServiceError {
        switch self {
        case let error as ServiceError: error
        case let error as LakeError: ServiceError(error.serviceCode, "\(error)")
        case let error as EventLogError: ServiceError(error.serviceCode, "\(error)")
        case let error as CatalogError: error.serviceError
        case let error as DuckDBError: LakeError(error).asServiceError
        default: ServiceError(.internal, "\(self)")
        }
    }
}

extension LakeError {
    fileprivate var serviceCode: ServiceError.Code {
        switch code {
        case .malformedTransaction, .invalidName, .typeConflict, .keyMismatch, .invalidKey, .unknownColumn, .invalidSQL:
            .invalid
        case .tooLarge: .tooLarge
        case .unknownTable: .notFound
        case .readOnly: .forbidden
        case .timeout: .timeout
        case .cancelled, .busy, .closed, .unavailable: .unavailable
        case .damaged, .internal: .internal
        }
    }
}

extension EventLogError {
    fileprivate var serviceCode: ServiceError.Code {
        switch code {
        case .unknownTopic, .unknownPartition: .notFound
        case .topicExists: .alreadyExists
        case .invalidTopicName, .invalidSettings, .corruptBatch, .offsetOutOfRange: .invalid
        case .messageTooLarge: .tooLarge
        case .diskFull: .storageFull
        case .overloaded, .partitionStopped, .closed: .unavailable
        default: .internal
        }
    }
}
