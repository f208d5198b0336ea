// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// A log record in a line: `2026-03-30 11:25:01.220 [fn] [INFO]  [user] message`.
package enum LogLine {
    /// The line, without its line feed; the lines of a longer message follow below.
    package static func text(_ record: JSONValue, style: Style) -> String {
        let moment = record["time"]?.stringValue ?? record["timestamp"]?.stringValue ?? ""
        var time = moment
        if let micros = Timestamp.parseMicroseconds(moment) {
            time = String(Timestamp.format(microseconds: micros).prefix(23)).replacing("T", with: " ")
        }
        let severity = name(record["severity"]?.stringValue ?? record["level"]?.stringValue ?? "INFO")
        let source = (record["function"]?.stringValue).nonEmpty ?? (record["pipeline"]?.stringValue).nonEmpty
        let scope = record["scope"]?.stringValue ?? ""
        let level = "[\(severity)]" + String(repeating: " ", count: max(0, 5 - severity.count))
        var parts = [style.dim(Sanitizer.clean(time))]
        if let source { parts.append("[\(style.cyan(Sanitizer.clean(source)))]") }
        parts.append(coloured(level, severity, style))
        parts.append(style.dim("[\(Sanitizer.clean(scope == "vast-runtime" ? "runtime" : scope))]"))
        var message = record["message"]?.stringValue ?? ""
        while message.last?.isNewline == true { message.removeLast() }
        parts.append(Sanitizer.cleanLines(message))
        return parts.joined(separator: " ")
    }

    private static func name(_ severity: String) -> String {
        switch severity.uppercased() {
        case "WARN": "WARNING"
        case "FATAL": "CRITICAL"
        case let name: Sanitizer.clean(name)
        }
    }

    private static func coloured(_ text: String, _ severity: String, _ style: Style) -> String {
        switch severity {
        case "ERROR", "CRITICAL": style.red(text)
        case "WARNING": style.yellow(text)
        case "DEBUG", "TRACE": style.dim(text)
        default: text
        }
    }
}
