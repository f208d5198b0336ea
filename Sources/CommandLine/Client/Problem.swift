// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// Reads the engine's errors (`application/problem+json`).
enum Problem {
    /// The failure an answer with an error status stands for.
    static func failure(status: Int, contentType: String, bytes: [UInt8], request: APIRequest, server: String)
        -> CommandFailure
    {
        guard let value = try? JSONValue(parsing: bytes), value.objectValue != nil else {  // No JSON is handled below.
            return notJSON(status: status, contentType: contentType, request: request, server: server)
        }
        var failure = failure(value, status: status)
        if status == 401, failure.fix == nil {
            failure.fix = "give the engine's token with MARTLET_TOKEN, --token or: martlet config set --token"
        }
        return failure
    }

    /// The failure that a problem object describes.
    static func failure(_ value: JSONValue, status: Int) -> CommandFailure {
        let fields = (value["errors"]?.arrayValue ?? []).map { item in
            ServiceError.FieldError(
                field: item["field"]?.stringValue ?? "",
                message: item["message"]?.stringValue ?? "",
                fix: item["fix"]?.stringValue,
                line: item["line"]?.intValue.flatMap { Int(exactly: $0) }
            )
        }
        let message =
            (value["detail"]?.stringValue).nonEmpty ?? (value["title"]?.stringValue).nonEmpty
            ?? (value["message"]?.stringValue).nonEmpty ?? "the engine answered with status \(status)"
        let status = value["status"]?.intValue.flatMap { Int(exactly: $0) } ?? status
        return CommandFailure(
            CommandStatus(code: value["code"]?.stringValue, httpStatus: status),
            message,
            fix: (value["fix"]?.stringValue).nonEmpty,
            fields: fields,
            trace: (value["trace"]?.stringValue).nonEmpty
        )
    }

    /// The failure for an answer that no engine gives.
    static func notJSON(status: Int, contentType: String, request: APIRequest, server: String) -> CommandFailure {
        let kind = contentType.isEmpty ? "without a content type" : "of type \(contentType.prefix(80))"
        return CommandFailure(
            status < 400 ? .failure : CommandStatus(code: nil, httpStatus: status),
            "\(server) answered \(request.method) \(request.target) with status \(status) and a body \(kind), not JSON",
            fix: "check that this is the address of a Martlet engine and not of something in front of it"
        )
    }
}
