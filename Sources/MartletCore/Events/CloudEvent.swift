// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A CloudEvents 1.0 event.
///
/// Extension order is kept, because people compare printed events. `data` is the bytes as they travel: JSON text where `dataContentType` is JSON.
package struct CloudEvent: Sendable, Equatable {
    /// One extension attribute; values travel as strings.
    package struct Extension: Sendable, Equatable {
        package var name: String
        package var value: String

        package init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    package var id: String
    package var source: String
    package var type: String
    package var subject: String?
    /// RFC 3339, as sent.
    package var time: String?
    package var dataContentType: String?
    package var dataSchema: String?
    package var extensions: [Extension]
    package var data: [UInt8]?

    package init(
        id: String,
        source: String,
        type: String,
        subject: String? = nil,
        time: String? = nil,
        dataContentType: String? = nil,
        dataSchema: String? = nil,
        extensions: [Extension] = [],
        data: [UInt8]? = nil
    ) {
        self.id = id
        self.source = source
        self.type = type
        self.subject = subject
        self.time = time
        self.dataContentType = dataContentType
        self.dataSchema = dataSchema
        self.extensions = extensions
        self.data = data
    }

    /// The value of an extension, or nil.
    package subscript(extension name: String) -> String? {
        get { extensions.first { $0.name == name }?.value }
        set {
            let index = extensions.firstIndex { $0.name == name }
            switch (index, newValue) {
            case (let index?, let value?): extensions[index].value = value
            case (let index?, nil): extensions.remove(at: index)
            case (nil, let value?): extensions.append(Extension(name, value))
            case (nil, nil): break
            }
        }
    }

    /// Whether `type` says the data is JSON (`application/json`, `text/json` or a `+json` suffix; absent counts as JSON).
    package static func isJSON(_ contentType: (some StringProtocol)?) -> Bool {
        guard let contentType else { return true }
        let media = contentType.prefix { $0 != ";" }.lowercased()
        return media.hasSuffix("/json") || media.hasSuffix("+json")
    }
}
