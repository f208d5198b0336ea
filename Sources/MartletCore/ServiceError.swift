// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A refusal or failure that a service reports to its caller: what, where and what to do.
package struct ServiceError: Error, Sendable, Equatable {
    /// The kind of failure; decides the HTTP status and the command line's exit code.
    package enum Code: String, Sendable, CaseIterable {
        case invalid
        case notFound
        case alreadyExists
        case inUse
        case failedPrecondition
        case unauthenticated
        case forbidden
        case tooLarge
        case unavailable
        case timeout
        case storageFull
        case storageFailed
        case `internal`

        /// The HTTP status that says so.
        package var httpStatus: Int {
            switch self {
            case .invalid: 422
            case .notFound: 404
            case .alreadyExists, .inUse, .failedPrecondition: 409
            case .unauthenticated: 401
            case .forbidden: 403
            case .tooLarge: 413
            case .unavailable: 503
            case .timeout: 504
            case .storageFull: 507
            case .storageFailed, .internal: 500
            }
        }
    }

    /// One field of a request that was refused.
    package struct FieldError: Sendable, Equatable, Codable {
        /// Dotted path of the field, for example `manifest.links[0].source`.
        package var field: String
        /// What is wrong with it, with the offending value.
        package var message: String
        /// What to write instead.
        package var fix: String?
        /// Line in the submitted document, from 1, where there is one.
        package var line: Int?

        package init(field: String, message: String, fix: String? = nil, line: Int? = nil) {
            self.field = field
            self.message = message
            self.fix = fix
            self.line = line
        }
    }

    package var code: Code
    /// What happened and where, with the offending value; never a payload or a secret.
    package var message: String
    /// What to do about it.
    package var fix: String?
    /// Fields at fault, in document order.
    package var fields: [FieldError]
    /// Further text a person may want whole, such as a Python traceback.
    package var detail: String?

    package init(
        _ code: Code,
        _ message: String,
        fix: String? = nil,
        fields: [FieldError] = [],
        detail: String? = nil
    ) {
        self.code = code
        self.message = message
        self.fix = fix
        self.fields = fields
        self.detail = detail
    }

    /// A refusal of one field.
    package static func invalid(field: String, _ message: String, fix: String? = nil, line: Int? = nil) -> Self {
        Self(
            .invalid,
            "\(field): \(message)",
            fix: fix,
            fields: [FieldError(field: field, message: message, fix: fix, line: line)]
        )
    }

    /// A reference to something that does not exist.
    package static func notFound(_ kind: ResourceKind, _ name: String) -> Self {
        Self(
            .notFound,
            "no \(kind.noun) named '\(name)'",
            fix: "list what exists with: martlet \(kind.rawValue) list"
        )
    }
}

extension ServiceError: CustomStringConvertible {
    package var description: String {
        var text = message
        for field in fields where !message.hasPrefix(field.field) {
            text += "\n  \(field.field): \(field.message)"
        }
        if let fix { text += "\n  \(fix)" }
        return text
    }
}
