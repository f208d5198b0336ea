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
        case let error as LakeError: ServiceError(error.serviceCode, "\(error)", fix: error.fix ?? error.usualFix)
        case let error as EventLogError: ServiceError(error.serviceCode, error.message, fix: error.fix)
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
        case .readOnly, .notAllowed: .invalid
        case .followsTopic, .reserved: .failedPrecondition
        case .outOfMemory: .storageFull
        case .unknownTable: .notFound
        case .timeout: .timeout
        case .cancelled, .busy, .closed, .unavailable: .unavailable
        case .damaged, .internal: .internal
        }
    }
}

extension LakeError {
    fileprivate var usualFix: String? {
        switch code {
        case .readOnly:
            "queries only read; to change tables by SQL say so: --write, or \"write\": true in POST /statements"
        case .notAllowed: "settings, files and other databases cannot be reached from SQL"
        case .outOfMemory: "narrow the query, or raise tables.memory-mib or tables.spill-mib"
        case .invalidSQL: "correct the statement; martlet tables list shows the tables there are"
        case .unknownTable: "list what exists with: martlet tables list"
        case .busy: "try again in a moment"
        case .timeout: "give it more time (--timeout), or narrow the query"
        default: nil
        }
    }
}

extension EventLogError {
    fileprivate var fix: String? {
        switch code {
        case .messageTooLarge: "send less at once, raise the topic's max.message.bytes, or send the path of a file"
        case .diskFull: "make room on the disk of the data directory; nothing was stored of this request"
        case .overloaded: "try again in a moment, or send fewer events at once"
        case .partitionStopped: "look at the disk and the engine's log, then restart the engine"
        case .unknownTopic: "list what exists with: martlet topics list"
        default: nil
        }
    }

    fileprivate var serviceCode: ServiceError.Code {
        switch code {
        case .unknownTopic, .unknownPartition: .notFound
        case .topicExists: .alreadyExists
        case .invalidTopicName, .invalidSettings, .corruptBatch, .offsetOutOfRange, .invalidRecord, .invalidTimestamp:
            .invalid
        case .messageTooLarge: .tooLarge
        case .diskFull: .storageFull
        case .overloaded, .partitionStopped, .closed: .unavailable
        case .dataDirectoryInUse: .failedPrecondition
        case .inputOutput: .storageFailed
        default: .internal
        }
    }
}
