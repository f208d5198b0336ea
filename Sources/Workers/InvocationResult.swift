// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// What became of one event inside a worker; a row of the worker protocol's `results` line.
package struct InvocationResult: Sendable {
    /// How a handler call ended.
    package enum Status: Sendable, Equatable {
        case ok
        case error
        case timeout
    }

    /// Why a handler call failed.
    package struct Failure: Sendable, Equatable {
        package var type: String
        package var message: String
        package var traceback: String?

        package init(type: String, message: String, traceback: String? = nil) {
            self.type = type
            self.message = message
            self.traceback = traceback
        }
    }

    /// An event the handler returned.
    package struct Output: Sendable {
        /// Raw JSON of `data`, or decoded bytes of `data_base64`.
        package var data: [UInt8]?
        package var isJSON: Bool
        package var labels: [(name: String, value: String)]
        /// Attributes of a returned event, as strings, in order.
        package var attributes: [(name: String, value: String)]

        package init(
            data: [UInt8]?,
            isJSON: Bool = true,
            labels: [(name: String, value: String)] = [],
            attributes: [(name: String, value: String)] = []
        ) {
            self.data = data
            self.isJSON = isJSON
            self.labels = labels
            self.attributes = attributes
        }
    }

    /// Position in the request.
    package var index: Int
    package var status: Status
    /// Handler entry, microseconds since 1970.
    package var startMicros: Int64
    package var durationMicros: Int64
    package var outputs: [Output]
    package var failure: Failure?
    /// What user code set on its span.
    package var span: JSONValue?

    package init(
        index: Int,
        status: Status,
        startMicros: Int64,
        durationMicros: Int64,
        outputs: [Output] = [],
        failure: Failure? = nil,
        span: JSONValue? = nil
    ) {
        self.index = index
        self.status = status
        self.startMicros = startMicros
        self.durationMicros = durationMicros
        self.outputs = outputs
        self.failure = failure
        self.span = span
    }
}

/// One line of the answer to `POST /v1/invoke`.
package enum ResultLine: Sendable {
    case results([InvocationResult])
    /// Indices inside a handler, with milliseconds since entry.
    case running([(index: Int, milliseconds: Int64)])
}
