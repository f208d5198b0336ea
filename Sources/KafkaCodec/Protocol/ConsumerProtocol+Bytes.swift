// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// What members of a `consumer` group tell each other through the coordinator: a version, then fields.
package protocol ConsumerProtocolMessage: KafkaMessage {}

extension ConsumerProtocolSubscription: ConsumerProtocolMessage {}
extension ConsumerProtocolAssignment: ConsumerProtocolMessage {}

extension ConsumerProtocolMessage {
    /// Reads the bytes of a member's metadata or assignment.
    ///
    /// A version that is not known yet is read as the newest known: later versions only add fields at the end.
    /// - Throws: `.unsupportedVersion` below 0, or what is wrong with the bytes.
    package init(bytes: [UInt8]) throws(KafkaCodecError) {
        let result: Result<Self, KafkaCodecError> = bytes.withUnsafeBytes { raw in
            var reader = KafkaReader(raw)
            let version = min(reader.int16(), Self.versions.upperBound)
            do throws(KafkaCodecError) {
                try reader.check()
                return .success(try Self(from: &reader, version: version))
            } catch {
                return .failure(error)
            }
        }
        self = try result.get()
    }

    /// Returns the version and the fields.
    ///
    /// - Throws: `.unsupportedVersion`, `.tooLong`.
    package func bytes(version: Int16) throws(KafkaCodecError) -> [UInt8] {
        var writer = KafkaWriter()
        writer.int16(version)
        write(to: &writer, version: version)
        if let fault = writer.fault { throw fault }
        return writer.bytes
    }
}
