// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// Why a command ends without having done its work.
package struct CommandFailure: Error, Sendable, Equatable {
    package var status: CommandStatus
    /// What happened and where.
    package var message: String
    /// What to do about it.
    package var fix: String?
    /// Fields at fault, in the order of the document.
    package var fields: [ServiceError.FieldError]
    /// Text shown whole below the message, such as a Python traceback.
    package var trace: String?

    package init(
        _ status: CommandStatus,
        _ message: String,
        fix: String? = nil,
        fields: [ServiceError.FieldError] = [],
        trace: String? = nil
    ) {
        self.status = status
        self.message = message
        self.fix = fix
        self.fields = fields
        self.trace = trace
    }

    /// A command line that cannot be carried out as written.
    package static func usage(_ message: String, fix: String? = nil) -> Self {
        Self(.usage, message, fix: fix)
    }

    /// The failure of a service, for errors that arise on this side of the API.
    package init(_ error: ServiceError) {
        self.init(
            CommandStatus(code: error.code.rawValue, httpStatus: 0),
            error.message,
            fix: error.fix,
            fields: error.fields,
            trace: error.detail
        )
    }

    /// The text for people, without a trailing line feed.
    package func text(style: Style) -> String {
        var lines = ["\(style.red("error:")) \(Sanitizer.clean(message))"]
        for field in fields {
            let place = field.line.map { " (line \($0))" } ?? ""
            let repeatsMessage = message == "\(field.field): \(field.message)"
            if repeatsMessage, fields.count == 1 {
                if !place.isEmpty { lines[0] += place }
            } else {
                lines.append("  \(Sanitizer.clean(field.field))\(place): \(Sanitizer.clean(field.message))")
            }
            if let fix = field.fix, fix != self.fix {
                lines.append("    \(style.dim("fix:")) \(Sanitizer.clean(fix))")
            }
        }
        if let fix { lines.append("  \(style.dim("fix:")) \(Sanitizer.clean(fix))") }
        if let trace, !trace.isEmpty {
            lines.append("")
            lines += trace.split(separator: "\n", omittingEmptySubsequences: false).map {
                "  " + Sanitizer.clean($0)
            }
            while lines.last?.allSatisfy(\.isWhitespace) == true { lines.removeLast() }
        }
        return lines.joined(separator: "\n")
    }
}

extension CommandStatus {
    /// The exit code for an engine's error, by its `code` and, where that is absent or unknown, by HTTP status.
    package init(code: String?, httpStatus: Int) {
        let words = code?.filter { $0 != "_" && $0 != "-" }.lowercased()
        switch words.flatMap({ word in ServiceError.Code.allCases.first { $0.rawValue.lowercased() == word } }) {
        case .invalid?, .tooLarge?: self = .refused
        case .notFound?: self = .notFound
        case .alreadyExists?, .inUse?, .failedPrecondition?: self = .conflict
        case .unauthenticated?, .forbidden?: self = .denied
        case .unavailable?: self = .unreachable
        case .timeout?: self = .timeout
        case .storageFull?, .internal?: self = .failure
        case nil:
            switch httpStatus {
            case 401, 403: self = .denied
            case 404: self = .notFound
            case 409: self = .conflict
            case 400, 413, 415, 422: self = .refused
            case 503: self = .unreachable
            case 408, 504: self = .timeout
            default: self = .failure
            }
        }
    }
}
