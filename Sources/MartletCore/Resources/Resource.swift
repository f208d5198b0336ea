// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation

/// What every resource of one kind adds to the common metadata; encoded as JSON with snake_case keys.
package protocol ResourceSpec: Codable, Sendable {
    static var kind: ResourceKind { get }
    /// What this resource needs to exist; the catalog refuses to delete a resource others refer to.
    var references: [ResourceReference] { get }
}

extension ResourceSpec {
    package var references: [ResourceReference] { [] }
}

/// A pointer from one resource to another, by name.
package struct ResourceReference: Hashable, Sendable, Codable {
    package var kind: ResourceKind
    package var name: String

    package init(kind: ResourceKind, name: String) {
        self.kind = kind
        self.name = name
    }
}

/// The fields all resources share.
package struct ResourceMetadata: Codable, Sendable, Equatable {
    /// Who made the resource.
    package struct Owner: Codable, Sendable, Equatable {
        package var id: String
        package var idType: String
        package var name: String

        package init(name: String) {
            self.id = name
            self.idType = "vid"
            self.name = name
        }
    }

    /// Increasing within a kind; the order of lists.
    package var id: Int64
    /// Random UUID, lower case.
    package var guid: String
    package var name: String
    package var description: String
    package var tags: [String]
    package var owner: Owner
    /// UTC, whole microseconds.
    package var createdAt: Date
    package var updatedAt: Date
    /// `vast:dataengine:<kind>:<name>`.
    package var vrn: String

    package init(
        kind: ResourceKind,
        id: Int64,
        guid: String,
        name: String,
        description: String,
        tags: [String],
        owner: Owner,
        createdAt: Date,
        updatedAt: Date
    ) {
        self.id = id
        self.guid = guid
        self.name = name
        self.description = description
        self.tags = tags
        self.owner = owner
        self.createdAt = createdAt
        self.updatedAt = updatedAt
        self.vrn = ResourceName(kind: kind, name: name).description
    }
}

/// One resource: common metadata and what its kind adds, flat in JSON.
package struct Resource<Spec: ResourceSpec>: Codable, Sendable {
    package var metadata: ResourceMetadata
    package var spec: Spec

    package init(metadata: ResourceMetadata, spec: Spec) {
        self.metadata = metadata
        self.spec = spec
    }

    package init(from decoder: any Decoder) throws {
        metadata = try ResourceMetadata(from: decoder)
        spec = try Spec(from: decoder)
    }

    package func encode(to encoder: any Encoder) throws {
        try metadata.encode(to: encoder)
        try spec.encode(to: encoder)
    }

    /// The metadata's name.
    package var name: String { metadata.name }
    /// The metadata's GUID.
    package var guid: String { metadata.guid }
}

/// One page of a list.
package struct Page<Item: Sendable>: Sendable {
    package var items: [Item]
    /// Passed back to get the next page; nil on the last.
    package var nextCursor: String?

    package init(items: [Item], nextCursor: String? = nil) {
        self.items = items
        self.nextCursor = nextCursor
    }
}
