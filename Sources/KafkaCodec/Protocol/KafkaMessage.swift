// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// The body of a request or a response; Tools/generate-kafka writes the types.
///
/// A field that a version does not have is left at its default when the version is read, and left out when it is written.
package protocol KafkaMessage: Equatable, Sendable {
    /// The versions that can be read and written.
    static var versions: ClosedRange<Int16> { get }
    /// The first version with compact lengths and tagged fields; `Int16.max` where there is none.
    static var flexibleFrom: Int16 { get }
    /// Reads the fields; the reader holds the fault where there is one.
    init(reading reader: inout KafkaReader, version: Int16)
    /// Writes the fields; the writer holds the fault where there is one.
    func encode(into writer: inout KafkaWriter, version: Int16)
}

/// The body of a request.
package protocol KafkaRequest: KafkaMessage {
    associatedtype Response: KafkaResponse
    /// The API the request calls.
    static var api: KafkaAPIKey { get }
}

/// The body of a response.
package protocol KafkaResponse: KafkaMessage {
    /// The API that answers with it.
    static var api: KafkaAPIKey { get }
}

extension KafkaMessage {
    /// Reads a message; the reader stands behind it on return, and bytes may be left.
    ///
    /// - Throws: `.unsupportedVersion`, or what is wrong with the bytes.
    package init(from reader: inout KafkaReader, version: Int16) throws(KafkaCodecError) {
        guard Self.versions.contains(version) else {
            throw KafkaCodecError(.unsupportedVersion, at: reader.position, value: Int(version))
        }
        reader.isFlexible = version >= Self.flexibleFrom
        self.init(reading: &reader, version: version)
        try reader.check()
    }

    /// Writes a message; ``KafkaWriter/frame()`` throws what is wrong with it.
    package func write(to writer: inout KafkaWriter, version: Int16) {
        guard Self.versions.contains(version) else { return writer.fail(.unsupportedVersion, Int(version)) }
        writer.isFlexible = version >= Self.flexibleFrom
        encode(into: &writer, version: version)
    }
}

extension KafkaRequest {
    /// Returns the request as it is sent, header and length included.
    ///
    /// - Throws: `.unsupportedVersion`, `.tooLong`.
    package func frame(correlationID: Int32, clientID: String?, version: Int16) throws(KafkaCodecError) -> KafkaFrame {
        var writer = KafkaWriter()
        let header = KafkaRequestHeader(
            apiKey: Self.api.rawValue,
            version: version,
            correlationID: correlationID,
            clientID: clientID
        )
        header.write(to: &writer)
        write(to: &writer, version: version)
        return try writer.frame()
    }
}

extension KafkaResponse {
    /// Writes the header and the response.
    ///
    /// The header has tagged fields where the version is flexible, except in front of ApiVersions: a client that does not
    /// know yet what the broker speaks must be able to read it.
    package func write(to writer: inout KafkaWriter, correlationID: Int32, version: Int16) {
        writer.int32(correlationID)
        writer.isFlexible = version >= Self.flexibleFrom && Self.api != .apiVersions
        writer.end()
        write(to: &writer, version: version)
    }

    /// Returns the response as it is sent, header and length included.
    ///
    /// - Throws: `.unsupportedVersion`, `.tooLong`.
    package func frame(correlationID: Int32, version: Int16) throws(KafkaCodecError) -> KafkaFrame {
        var writer = KafkaWriter()
        write(to: &writer, correlationID: correlationID, version: version)
        return try writer.frame()
    }
}
