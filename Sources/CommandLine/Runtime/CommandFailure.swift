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
    ///
    /// One field is told in the headline where the message already has it; several stand below it, each with its own fix.
    package func text(style: Style) -> String {
        var lines: [String] = []
        var fixes: [String] = []
        if let only = fields.first, fields.count == 1, message.hasSuffix(only.message) {
            let isNamed = only.field.isEmpty || message.contains(only.field)
            let headline = isNamed ? message : "\(only.field): \(message)"
            let place = only.line.map { headline.contains("line \($0)") ? "" : " (line \($0))" } ?? ""
            lines += Self.block(style.red("error:"), headline + place, indent: 0)
            fixes = [fix, only.fix].compactMap(\.self)
        } else {
            lines += Self.block(style.red("error:"), message, indent: 0)
            for field in fields {
                lines += Self.block(Self.label(field), field.message, indent: 2)
                if let fix = field.fix { lines += Self.block(style.dim("fix:"), fix, indent: 4) }
            }
            if let fix, !fields.contains(where: { $0.fix == fix }) { fixes = [fix] }
        }
        for (index, fix) in fixes.enumerated() where !fixes[..<index].contains(fix) {
            lines += Self.block(style.dim("fix:"), fix, indent: 2)
        }
        if let trace, !trace.isEmpty {
            lines.append("")
            lines += trace.split(separator: "\n", omittingEmptySubsequences: false).map {
                "  " + Sanitizer.clean($0)
            }
            while lines.last?.allSatisfy(\.isWhitespace) == true { lines.removeLast() }
        }
        return lines.joined(separator: "\n")
    }

    private static func label(_ field: ServiceError.FieldError) -> String {
        let name = Sanitizer.clean(field.field)
        switch (name.isEmpty, field.line) {
        case (true, let line?): return "line \(line):"
        case (true, nil): return "-"
        case (false, let line?): return "\(name) (line \(line)):"
        case (false, nil): return "\(name):"
        }
    }

    /// A label and a text that may have several lines, which keep their alignment with one another below the first.
    private static func block(_ label: String, _ text: String, indent: Int) -> [String] {
        let margin = String(repeating: " ", count: indent)
        var lines = Sanitizer.cleanLines(text).split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        while lines.count > 1, lines.last?.allSatisfy(\.isWhitespace) == true { lines.removeLast() }
        return lines.enumerated().map { index, line in
            if index == 0 { return "\(margin)\(label) \(line)" }
            return line.isEmpty ? "" : "\(margin)  \(line)"
        }
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
        case .storageFull?, .storageFailed?, .internal?: self = .failure
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
