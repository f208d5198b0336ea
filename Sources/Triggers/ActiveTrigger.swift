// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore
package import Views

/// A trigger as the runtime uses it.
struct ActiveTrigger: Sendable {
    let name: String
    let guid: String
    let topic: String
    let spec: TriggerSpec
    /// Nanoseconds since 1970.
    let createdNanos: Int64
    /// When the trigger was last changed, microseconds since 1970.
    let updatedMicros: Int64
    let filter: ElementFilter
    let extensions: [(name: String, value: String)]

    init(_ resource: Resource<TriggerSpec>) {
        name = resource.name
        guid = resource.guid
        topic = resource.spec.topicName
        spec = resource.spec
        createdNanos = Timestamp.microseconds(resource.metadata.createdAt) * 1000
        updatedMicros = Timestamp.microseconds(resource.metadata.updatedAt)
        filter = ElementFilter(resource.spec)
        extensions = resource.spec.customExtensions.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    /// Whether both write the same events to the same place.
    func isSame(as other: ActiveTrigger) -> Bool { guid == other.guid && spec == other.spec && name == other.name }
}

/// Which changes a trigger wants.
package struct ElementFilter: Sendable {
    private let kinds: [ElementChange.Kind]
    private let names: TriggerSpec.Filters
    private let tags: TriggerSpec.Filters

    /// Reads the filter of a trigger.
    package init(_ spec: TriggerSpec) {
        kinds = spec.events.compactMap(ElementEventName.kind)
        names = spec.config.nameFilters
        tags = spec.config.tagFilters
    }

    /// Whether the trigger wants a change.
    ///
    /// Tag filters look at `name=value` of the tag concerned, and for created and removed elements at all their tags.
    package func matches(_ change: ElementChange) -> Bool {
        guard kinds.contains(change.kind), Self.matches(change.key, names) else { return false }
        guard !tags.prefixes.isEmpty || !tags.suffixes.isEmpty else { return true }
        if let tag = change.tag { return Self.matches("\(tag.name)=\(tag.value)", tags) }
        return change.state.tags.contains { Self.matches("\($0.key)=\($0.value)", tags) }
    }

    private static func matches(_ text: String, _ filters: TriggerSpec.Filters) -> Bool {
        (filters.prefixes.isEmpty || filters.prefixes.contains { text.utf8.starts(with: $0.utf8) })
            && (filters.suffixes.isEmpty
                || filters.suffixes.contains { text.utf8.reversed().starts(with: $0.utf8.reversed()) })
    }
}

/// The names of element events.
package enum ElementEventName {
    /// The names triggers are stored with, in their order.
    package static let all = ["ObjectCreated:*", "ObjectRemoved:*", "ObjectTagging:Put", "ObjectTagging:Delete"]

    /// The kind of change a stored name stands for.
    package static func kind(_ name: String) -> ElementChange.Kind? {
        switch name {
        case "ObjectCreated:*": .created
        case "ObjectRemoved:*": .removed
        case "ObjectTagging:Put": .tagPut
        case "ObjectTagging:Delete": .tagRemoved
        default: nil
        }
    }

    /// The stored name for any spelling people use: S3 names, precise ones included, the UI's names, those of event types.
    package static func stored(_ text: String) -> String? {
        let plain = text.lowercased().replacing("s3:", with: "").filter { $0.isLetter }
        switch plain {
        case "objectcreated", "objectcreatedput", "objectcreatedpost", "objectcreatedcopy",
            "objectcreatedcompletemultipartupload", "elementcreated", "elementelementcreated", "created":
            return all[0]
        case "objectremoved", "objectremoveddelete", "objectremoveddeletemarkercreated", "elementdeleted",
            "elementelementdeleted", "objectdeleted", "elementremoved", "deleted", "removed":
            return all[1]
        case "objecttaggingput", "elementtagcreated", "elementelementtagcreated", "tagcreated", "tagput": return all[2]
        case "objecttaggingdelete", "elementtagdeleted", "elementelementtagdeleted", "tagdeleted", "tagremoved":
            return all[3]
        default: return nil
        }
    }

    /// The last part of the event type.
    static func subtype(_ kind: ElementChange.Kind) -> String {
        switch kind {
        case .created: "ElementCreated"
        case .removed: "ElementDeleted"
        case .tagPut: "ElementTagCreated"
        case .tagRemoved: "ElementTagDeleted"
        }
    }

    static func kind(subtype: some StringProtocol) -> ElementChange.Kind? {
        ElementChange.Kind.allCases.first { Self.subtype($0) == subtype }
    }

    /// The precise name in the record of the payload.
    static func precise(_ kind: ElementChange.Kind) -> String {
        switch kind {
        case .created: "ObjectCreated:Put"
        case .removed: "ObjectRemoved:Delete"
        case .tagPut: "ObjectTagging:Put"
        case .tagRemoved: "ObjectTagging:Delete"
        }
    }
}
