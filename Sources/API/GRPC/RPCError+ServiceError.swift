// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import GRPCCore
import MartletCore

extension RPCError {
    /// A service's error as the status that says so, with what to do about it in its message.
    init(_ error: ServiceError) {
        self.init(code: Code(error.code), message: error.oneLine)
    }
}

extension RPCError.Code {
    /// The status code of google.rpc.Code.
    init(_ code: ServiceError.Code) {
        self =
            switch code {
            case .invalid: .invalidArgument
            case .notFound: .notFound
            case .alreadyExists: .alreadyExists
            case .inUse, .failedPrecondition: .failedPrecondition
            case .unauthenticated: .unauthenticated
            case .forbidden: .permissionDenied
            case .tooLarge, .storageFull: .resourceExhausted
            case .unavailable: .unavailable
            case .timeout: .deadlineExceeded
            case .storageFailed, .internal: .internalError
            }
    }
}

extension ServiceError {
    /// What happened, the fields at fault and what to do, in one line.
    var oneLine: String {
        var text = message
        for field in fields where !message.hasPrefix(field.field) {
            text += "; \(field.field): \(field.message)"
            if let fix = field.fix { text += " (\(fix))" }
        }
        if let fix { text += "; \(fix)" }
        return text.replacing("\n", with: " ")
    }
}
