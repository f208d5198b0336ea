// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Hummingbird
import MartletCore

/// CloudEvents in a request, by the HTTP protocol binding 1.0: binary, structured or batched.
enum EventRequest {
    /// Most events in one batch.
    static let batchMax = 100_000

    static func events(_ call: Call) throws -> [CloudEvent] {
        do {
            switch call.contentType {
            case "application/cloudevents+json": return [try CloudEvent.decodeStructured(call.body)]
            case "application/cloudevents-batch+json": return try CloudEvent.decodeBatch(call.body, limit: batchMax)
            case let type? where type.hasPrefix("application/cloudevents"):
                throw Refusal(
                    .unsupportedMediaType,
                    code: "unsupportedMediaType",
                    "events of type '\(type.prefix(100))' cannot be read",
                    fix: "send application/cloudevents+json or application/cloudevents-batch+json"
                )
            default: return [try binary(call)]
            }
        } catch let error as JSONError {
            throw Refusal.json(
                error,
                in: call.body,
                fix: "correct the JSON text, or name the type of other data in Content-Type"
            )
        }
    }

    private static func binary(_ call: Call) throws -> CloudEvent {
        var attributes: [(name: String, value: String)] = []
        for field in call.headers {
            let name = field.name.canonicalName
            guard name.hasPrefix("ce-") else { continue }
            guard let value = PercentCoding.decode(field.value[...]) else {
                throw ServiceError.invalid(
                    field: name,
                    "is not percent-encoded UTF-8",
                    fix: "encode it as %XX bytes of UTF-8"
                )
            }
            attributes.append((String(name.dropFirst(3)), unquoted(value)))
        }
        guard attributes.contains(where: { $0.name == "specversion" }) else {
            throw ServiceError(
                .invalid,
                "the request carries no CloudEvent: it has neither the header ce-specversion nor a CloudEvents content type",
                fix:
                    "send ce-specversion, ce-id, ce-source and ce-type as headers, or application/cloudevents+json as the body",
                fields: [ServiceError.FieldError(field: "ce-specversion", message: "is missing")]
            )
        }
        let event = try CloudEvent(
            attributes: attributes,
            dataContentType: call.headers[.contentType],
            data: call.body.isEmpty ? nil : call.body
        )
        if let data = event.data, event.dataContentType != nil, CloudEvent.isJSON(event.dataContentType) {
            _ = try JSONCursor.withBytes(data) { try $0.skipValue() }
        }
        return event
    }

    /// Header values may come in quotes.
    private static func unquoted(_ value: String) -> String {
        guard value.utf8.count >= 2, value.hasPrefix("\""), value.hasSuffix("\"") else { return value }
        return String(value.dropFirst().dropLast()).replacing("\\\"", with: "\"").replacing("\\\\", with: "\\")
    }
}
