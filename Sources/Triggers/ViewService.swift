// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Catalog
import Dispatch
import Documents
import Foundation
import Glibc
package import MartletCore
import Views

/// Views and the elements in them.
package struct ViewService: ViewServices {
    private static let tagsMax = 100

    private let catalog: Catalog
    private let board: StatusBoard
    private let dataDirectory: String
    private let onChange: @Sendable () async -> Void
    private let files = DispatchQueue(label: "martlet.views.files", attributes: .concurrent)

    /// Makes the service; `onChange` is awaited after every change, so that it has taken effect when the caller hears of it.
    package init(
        catalog: Catalog,
        board: StatusBoard,
        dataDirectory: String,
        onChange: @escaping @Sendable () async -> Void
    ) {
        self.catalog = catalog
        self.board = board
        self.dataDirectory = dataDirectory
        self.onChange = onChange
    }

    package func create(_ document: Document, by caller: Caller, dryRun: Bool) async throws -> Resource<ViewSpec> {
        let reader = DocumentReader(document, what: "a view")
        let name = reader.string("name", required: true)
        let path = reader.string("path", aliases: ["directory"], required: true)
        let (description, tags) = Self.common(reader)
        if let name, !ResourceName.isValidName(name) {
            reader.fail(
                "name",
                "'\(name.prefix(140))' is not a usable name",
                fix: "use 1 to 128 letters, digits, '.', '_' or '-', starting with a letter or digit"
            )
        }
        try reader.finish()
        guard let name, let path else { throw ServiceError(.invalid, "a view needs a name and a path") }
        let line = document.lines["path"] ?? document.lines["directory"]
        let resolved = try await blocking { [dataDirectory] in
            try Self.check(path, dataDirectory: dataDirectory, line: line)
        }
        let resource = try await catalog.transaction(dryRun: dryRun) { transaction in
            try transaction.create(
                name: name,
                description: description ?? "",
                tags: tags ?? [],
                owner: ResourceMetadata.Owner(name: caller.name),
                spec: ViewSpec(path: resolved)
            )
        }
        if !dryRun { await onChange() }
        return shown(resource)
    }

    package func update(
        _ id: String,
        _ document: Document,
        by caller: Caller,
        dryRun: Bool
    ) async throws -> Resource<ViewSpec> {
        let reader = DocumentReader(document, what: "a view")
        let old = try await catalog.views.get(id)
        if let name = reader.string("name"), name != old.name {
            reader.fail(
                "name",
                "the name '\(old.name)' cannot be changed",
                fix: "leave name out, or create another view"
            )
        }
        if let path = reader.string("path", aliases: ["directory"]), path != old.spec.path {
            reader.fail(
                "path",
                "the path '\(old.spec.path)' cannot be changed, since all elements would count as new",
                fix: "create another view"
            )
        }
        let (description, tags) = Self.common(reader)
        try reader.finish()
        let resource = try await catalog.transaction(dryRun: dryRun) { transaction in
            try transaction.update(ViewSpec.self, old.guid) { resource in
                if let description { resource.metadata.description = description }
                if let tags { resource.metadata.tags = tags }
            }
        }
        return shown(resource)
    }

    package func get(_ id: String) async throws -> Resource<ViewSpec> {
        shown(try await catalog.views.get(id))
    }

    package func list(_ query: ListQuery) async throws -> Page<Resource<ViewSpec>> {
        var page = try await catalog.views.list(query)
        page.items = page.items.map(shown)
        return page
    }

    package func delete(_ id: String, by caller: Caller) async throws {
        try await catalog.views.delete(id)
        await onChange()
    }

    // MARK: Elements

    package func elements(_ view: String, prefix: String, limit: Int, cursor: String?) async throws -> Page<Element> {
        guard (1...1000).contains(limit) else {
            throw ServiceError.invalid(field: "limit", "\(limit) is out of range", fix: "use 1 to 1000")
        }
        let directory = try await directory(view)
        let after = try cursor.map(Self.key(cursor:))
        let found = try await blocking { try directory.elements(prefix: prefix, after: after, limit: limit + 1) }
        guard found.count > limit else { return Page(items: found) }
        return Page(items: Array(found.prefix(limit)), nextCursor: Self.cursor(key: found[limit - 1].key))
    }

    package func tag(_ view: String, key: String, tags: [String: String]) async throws -> Element {
        guard !tags.isEmpty, tags.count <= Self.tagsMax else {
            throw ServiceError.invalid(field: "tags", "there are \(tags.count) tags", fix: "give 1 to \(Self.tagsMax)")
        }
        for (name, value) in tags {
            try Self.checkTag(name, "tags.\(name.prefix(80))")
            guard value.utf8.count <= ElementTags.valueBytesMax else {
                throw ServiceError.invalid(
                    field: "tags.\(name)",
                    "the value is \(value.utf8.count) bytes long",
                    fix: "use at most \(ElementTags.valueBytesMax) bytes"
                )
            }
        }
        let directory = try await directory(view)
        return try await blocking { try directory.tag(key, tags) }
    }

    package func untag(_ view: String, key: String, names: [String]) async throws -> Element {
        guard !names.isEmpty else {
            throw ServiceError.invalid(field: "name", "no tag is named", fix: "name at least one tag")
        }
        for name in names { try Self.checkTag(name, "name") }
        let directory = try await directory(view)
        return try await blocking { try directory.untag(key, names) }
    }

    private func directory(_ view: String) async throws -> ElementDirectory {
        ElementDirectory(root: try await catalog.views.get(view).spec.path)
    }

    private static func checkTag(_ name: String, _ field: String) throws(ServiceError) {
        let isValid =
            (1...ElementTags.nameBytesMax).contains(name.utf8.count)
            && name.utf8.allSatisfy { $0 > 0x20 && $0 != 0x3D && $0 != 0x7F }
        guard isValid else {
            throw .invalid(
                field: field,
                "'\(name.prefix(80))' is not a name of a tag",
                fix: "use 1 to \(ElementTags.nameBytesMax) bytes without spaces, control characters and '='"
            )
        }
    }

    // MARK: Checks and cursors

    private static func common(_ reader: DocumentReader) -> (description: String?, tags: [String]?) {
        let common = (reader.string("description"), reader.strings("tags"))
        reader.ignore(
            "id",
            "guid",
            "owner",
            "vrn",
            "status",
            "reason",
            "created_at",
            "updated_at",
            "tenant_guid",
            "protocols"
        )
        return common
    }

    /// The directory without links; refused where it cannot be watched.
    private static func check(_ path: String, dataDirectory: String, line: Int?) throws(ServiceError) -> String {
        func refuse(_ message: String, _ fix: String) -> ServiceError {
            .invalid(field: "path", message, fix: fix, line: line)
        }
        guard path.hasPrefix("/"), !path.utf8.contains(0) else {
            throw refuse("'\(path)' is not an absolute path", "start it with /")
        }
        guard let resolved = resolve(path) else {
            throw refuse(
                "'\(path)' cannot be used: \(ViewError.text(errno))",
                "create the directory first, or correct the path"
            )
        }
        var info = stat()
        guard stat(resolved, &info) == 0, info.st_mode & S_IFMT == S_IFDIR else {
            throw refuse("'\(path)' is not a directory", "name a directory")
        }
        guard access(resolved, R_OK | X_OK) == 0 else {
            throw refuse(
                "'\(path)' cannot be read: \(ViewError.text(errno))",
                "give the engine's user permission to read it"
            )
        }
        guard resolved != "/" else { throw refuse("'/' cannot be a view", "name a directory below it") }
        let data = resolve(dataDirectory) ?? dataDirectory
        if isInside(resolved, data) || isInside(data, resolved) {
            throw refuse(
                "'\(path)' and the engine's data directory '\(data)' lie one inside the other",
                "choose a directory apart from it, or the engine's own writes would be events"
            )
        }
        return resolved
    }

    private static func isInside(_ path: String, _ directory: String) -> Bool {
        path == directory || path.hasPrefix(directory.hasSuffix("/") ? directory : directory + "/")
    }

    private static func resolve(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        return String(validatingCString: resolved)
    }

    private static func cursor(key: String) -> String {
        Data(key.utf8).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing(
            "=",
            with: ""
        )
    }

    private static func key(cursor: String) throws(ServiceError) -> String {
        let padding = String(repeating: "=", count: (4 - cursor.utf8.count % 4) % 4)
        let standard = cursor.replacing("-", with: "+").replacing("_", with: "/") + padding
        guard let data = Data(base64Encoded: standard), let key = String(bytes: data, encoding: .utf8),
            ElementKey.isValid(key)
        else {
            throw .invalid(
                field: "cursor",
                "'\(cursor.prefix(100))' is not a cursor of this list",
                fix: "pass next_cursor of the page before as it is, or leave cursor out to start again"
            )
        }
        return key
    }

    private func shown(_ resource: Resource<ViewSpec>) -> Resource<ViewSpec> {
        var resource = resource
        if let status = board.view(resource.guid) {
            resource.spec.status = status.state.rawValue
            resource.spec.reason = status.reason
        }
        return resource
    }

    private func blocking<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
        try await withCheckedThrowingContinuation { continuation in
            files.async { continuation.resume(with: Result { try body() }) }
        }
    }
}
