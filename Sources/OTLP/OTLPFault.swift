// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// Why a request was not taken.
package struct OTLPFault: Error, Equatable {
    /// Codes of `google.rpc.Code`, which gRPC shares.
    package enum Code: Int32, Sendable {
        case unknown = 2
        case invalidArgument = 3
        case permissionDenied = 7
        /// What was sent is too much; sending it again does not help.
        case resourceExhausted = 8
        case unimplemented = 12
        /// There is no room now; sending it again later helps.
        case unavailable = 14
        case unauthenticated = 16
    }

    package var code: Code
    package var message: String

    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The status of an HTTP answer.
    package var httpStatus: Int {
        switch code {
        case .invalidArgument: 400
        case .unauthenticated: 401
        case .permissionDenied: 403
        case .resourceExhausted: 413
        case .unimplemented: 415
        case .unavailable: 503
        case .unknown: 500
        }
    }

    /// The same for a refusal of the engine's.
    package init(_ error: ServiceError) {
        code =
            switch error.code {
            case .invalid, .notFound, .alreadyExists, .inUse, .failedPrecondition: .invalidArgument
            case .unauthenticated: .unauthenticated
            case .forbidden: .permissionDenied
            case .tooLarge: .resourceExhausted
            case .unavailable, .timeout, .storageFull, .storageFailed: .unavailable
            case .internal: .unknown
            }
        message = error.fix.map { "\(error.message); \($0)" } ?? error.message
    }
}
