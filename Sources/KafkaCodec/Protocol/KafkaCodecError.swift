// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Why bytes are not a message of the Kafka protocol, or why a message cannot be written.
package struct KafkaCodecError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The kinds of refusal.
    package enum Code: String, Sendable, CaseIterable {
        /// The message ends inside a field, or a length goes beyond its end.
        case truncated
        /// A length below -1, or a variable-length integer of more than 32 bits.
        case badLength
        /// Null where the version has none.
        case unexpectedNull
        /// A string that is not UTF-8.
        case badText
        /// More array elements than the reader's limit.
        case tooManyElements
        /// Tags that do not ascend, or a tagged field that is shorter or longer than it says.
        case badTag
        /// The version of the message is not one of those this code knows.
        case unsupportedVersion
        /// A string, array or message longer than its length field can say.
        case tooLong
    }

    /// The kind of refusal.
    package let code: Code
    /// Where: bytes from the beginning of what is read or written.
    package let position: Int
    /// The offending number: a length, a count, a tag or a version.
    package let value: Int

    /// Creates an error.
    package init(_ code: Code, at position: Int, value: Int) {
        self.code = code
        self.position = position
        self.value = value
    }

    package var description: String {
        "\(code.rawValue) at byte \(position) of the message: \(Self.reason(code, value))"
    }

    private static func reason(_ code: Code, _ value: Int) -> String {
        switch code {
        case .truncated: "\(value) bytes are needed and fewer are left"
        case .badLength: "\(value) is no length"
        case .unexpectedNull: "null where this version has none"
        case .badText: "a string of \(value) bytes is not UTF-8"
        case .tooManyElements: "\(value) elements are more than the limit leaves"
        case .badTag: "tagged field \(value) does not follow the rules"
        case .unsupportedVersion: "version \(value) is not supported"
        case .tooLong: "\(value) is more than the length field holds"
        }
    }
}
