// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Who asks, as the API authenticated it.
package struct Caller: Sendable, Equatable {
    package var name: String
    /// Whether the caller may change anything, or only read.
    package var mayWrite: Bool

    package init(name: String, mayWrite: Bool = true) {
        self.name = name
        self.mayWrite = mayWrite
    }
}

/// How a list is cut.
package struct ListQuery: Sendable, Equatable {
    /// Keeps names that contain this text.
    package var name: String?
    /// 1...1000.
    package var limit: Int
    package var cursor: String?

    package init(name: String? = nil, limit: Int = 100, cursor: String? = nil) {
        self.name = name
        self.limit = limit
        self.cursor = cursor
    }
}

/// What every kind of resource offers to the API; `id` is a name, a GUID or a full resource name.
package protocol ResourceService<Spec>: Sendable {
    associatedtype Spec: ResourceSpec

    /// Makes a resource; with `dryRun` only checks and returns what would be made.
    func create(_ document: Document, by caller: Caller, dryRun: Bool) async throws -> Resource<Spec>
    /// Changes the fields the document has; names are immutable.
    func update(_ id: String, _ document: Document, by caller: Caller, dryRun: Bool) async throws -> Resource<Spec>
    func get(_ id: String) async throws -> Resource<Spec>
    func list(_ query: ListQuery) async throws -> Page<Resource<Spec>>
    /// Refused with the list of users while something refers to the resource.
    func delete(_ id: String, by caller: Caller) async throws
}
