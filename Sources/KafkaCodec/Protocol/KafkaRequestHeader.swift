// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// What stands in front of every request.
package struct KafkaRequestHeader: Hashable, Sendable {
    /// The number of the API as sent; ``api`` where it is known.
    package var apiKey: Int16
    /// The version of request and response.
    package var version: Int16
    /// The client's number for the request; the response carries it back.
    package var correlationID: Int32
    /// The client's name for itself, or `nil` for null.
    package var clientID: String?

    /// Creates a header.
    package init(apiKey: Int16, version: Int16, correlationID: Int32, clientID: String?) {
        self.apiKey = apiKey
        self.version = version
        self.correlationID = correlationID
        self.clientID = clientID
    }

    /// The API, or `nil` for one that is not served.
    package var api: KafkaAPIKey? { KafkaAPIKey(rawValue: apiKey) }

    /// Whether the API is served in this version; a request where it is not has only its header read.
    package var isSupported: Bool { api.map { $0.versions.contains(version) } ?? false }

    /// Whether the header ends with tagged fields.
    private var isFlexible: Bool { api.map { version >= $0.flexibleFrom } ?? false }

    /// Reads a header; the reader stands at the request's body on return if ``isSupported``.
    ///
    /// - Throws: What is wrong with the bytes.
    package init(from reader: inout KafkaReader) throws(KafkaCodecError) {
        apiKey = reader.int16()
        version = reader.int16()
        correlationID = reader.int32()
        clientID = reader.clientID()
        // How the header of an unknown version goes on is not known.
        if isSupported {
            reader.isFlexible = isFlexible
            reader.skipTags()
        }
        try reader.check()
    }

    /// Writes a header.
    package func write(to writer: inout KafkaWriter) {
        writer.int16(apiKey)
        writer.int16(version)
        writer.int32(correlationID)
        writer.clientID(clientID)
        writer.isFlexible = isFlexible
        writer.end()
    }
}
