// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Hummingbird
import MartletCore
import NIOCore

extension Route {
    /// OTLP/HTTP, at the paths that OpenTelemetry's senders append to an endpoint.
    static func otlp(_ service: any OTLPServices) -> [Route] {
        TelemetrySignal.allCases.map { signal in
            var route = Route(
                method: .post,
                path: "/v1/\(signal.rawValue)",
                id: "receive_\(signal.rawValue)",
                tag: "telemetry",
                summary: "Take OpenTelemetry's \(signal.rawValue) as OTLP/HTTP, in protobuf or JSON.",
                body: .otlp,
                contents: [
                    Content(type: OTLPFormat.json.rawValue, schema: "OTLPResponse"),
                    Content(type: OTLPFormat.protobuf.rawValue, schema: nil),
                ],
                negotiates: false
            ) { call in
                guard let format = format(call.contentType) else {
                    throw Refusal(
                        .unsupportedMediaType,
                        code: "unsupportedMediaType",
                        "a body without a type cannot be read",
                        fix: "send Content-Type: application/x-protobuf or application/json"
                    )
                }
                let answer = service.receive(
                    signal,
                    call.body,
                    format: format,
                    contentEncoding: call.headers[.contentEncoding]
                )
                var response = Response(
                    status: .init(code: answer.status),
                    headers: [.contentType: format.rawValue],
                    body: ResponseBody(byteBuffer: ByteBuffer(bytes: answer.body))
                )
                if let seconds = answer.retryAfter { response.headers[.retryAfter] = String(seconds) }
                return .response(response)
            }
            route.encodeRefusal = { error, contentType in
                let format = format(contentType) ?? .protobuf
                return (format.rawValue, service.refusal(error, format: format))
            }
            return route
        }
    }

    private static func format(_ contentType: String?) -> OTLPFormat? {
        guard let contentType else { return nil }
        return contentType.hasSuffix("json") ? .json : .protobuf
    }
}
