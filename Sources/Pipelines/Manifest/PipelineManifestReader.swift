// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
package import MartletCore

/// Reads pipeline manifests in every form people write them and gives the canonical one.
///
/// Accepted beyond the canonical form: no `manifest:` wrapper, the manifest as text inside the document, full resource names or bare
/// ones, variables as a list or a mapping, `resources` and `timeout` inside `config`, single names for lists, nulls, and the read-only
/// fields that `get` prints. Where a manifest is run (`kubernetes_cluster_vrn`, `namespace`) is accepted and left out.
package enum PipelineManifestReader {
    /// Most instances, links or variables in one list.
    static let entriesMax = 1000

    /// Reads and checks a manifest, its graph included.
    ///
    /// - Throws: `.invalid` with every fault found, each with its line, field and fix.
    package static func read(
        _ document: Document,
        tables: (any ManifestTables)? = nil
    ) throws(ServiceError) -> (
        name: String?, description: String?, tags: [String]?, manifest: PipelineManifest, references: ManifestReferences
    ) {
        let document = try unwrapText(document)
        let root = DocumentReader(document, what: "a pipeline")
        // A stored revision is named <pipeline>@<number> and says the pipeline's name beside it.
        let stored = root.string("name")
        let name = root.string("pipeline_name") ?? stored
        if let name, !ResourceName.isValidName(name) {
            root.fail(
                "name",
                "'\(name.prefix(140))' is not a usable name",
                fix: "use 1 to 128 letters, digits, '.', '_' or '-', starting with a letter or digit"
            )
        }
        let description = root.string("description")
        let tags = readTags(root)
        root.ignore("kubernetes_cluster_vrn", "kubernetes_cluster", "namespace")
        root.ignore("id", "guid", "vrn", "owner", "tenant_guid", "created_at", "updated_at", "status", "reason")
        root.ignore("last_revision_number", "deployed_revision_number", "revision_number", "uses")
        root.ignore("pipeline_name", "pipeline_guid", "alias", "is_published", "dry_run")
        let body = root.object("manifest", what: "a manifest")
        if body != nil {
            for field in ["config", "triggers", "function_deployments", "links", "tables"] where root.has(field) {
                root.ignore(field)
                root.fail(field, "'\(field)' stands beside 'manifest'", fix: "move it into 'manifest'")
            }
        }
        var references = ManifestReferences()
        let manifest = readManifest(body ?? root, tables, &references)
        for fault in PipelineGraph.faults(in: manifest) {
            (body ?? root).fail(fault.field, fault.message, fix: fault.fix)
        }
        try root.finish()
        return (name, description, tags, manifest, references)
    }

    /// Whether a document says anything about the graph; an update without that only changes name, description or tags.
    package static func hasManifest(_ document: Document) -> Bool {
        guard let object = document.value.objectValue else { return document.value.stringValue != nil }
        return [
            "manifest", "config", "triggers", "function_deployments", "functions", "links", "environment_variables",
            "secrets", "tables",
        ]
        .contains { field in object[field].map { $0 != .null } ?? false }
    }

    private static func unwrapText(_ document: Document) throws(ServiceError) -> Document {
        if case .string(let text) = document.value { return try DocumentParser.parse(text) }
        guard case .object(var object) = document.value, case .string(let text)? = object["manifest"] else {
            return document
        }
        var inner: Document
        do {
            inner = try DocumentParser.parse(text)
        } catch {
            throw .invalid(
                field: "manifest",
                "the text cannot be read: \(error.message)",
                fix: error.fix,
                line: document.lines["manifest"]
            )
        }
        // A manifest inside a manifest's text would be the whole document again.
        if let wrapped = inner.value["manifest"] { inner.value = wrapped }
        object["manifest"] = inner.value
        return Document(value: .object(object), lines: document.lines)
    }

    private static func readTags(_ root: DocumentReader) -> [String]? {
        guard let (path, value) = root.value("tags") else { return nil }
        switch value {
        case .array(let elements):
            return elements.enumerated().compactMap { index, element in
                if let text = DocumentReader.text(element) { return text }
                root.fail(
                    at: "\(path)[\(index)]",
                    "\(DocumentReader.show(element)) is not text",
                    fix: "write a list of texts"
                )
                return nil
            }
        case .object(let object):
            return object.members.map { member in
                "\(member.key)=\(DocumentReader.text(member.value) ?? "")"
            }
        default:
            guard let text = DocumentReader.text(value) else { return nil }
            return text.split(separator: ",").map { $0.trimmed }.filter { !$0.isEmpty }
        }
    }

    private static func readManifest(
        _ body: DocumentReader,
        _ tables: (any ManifestTables)?,
        _ references: inout ManifestReferences
    ) -> PipelineManifest {
        var manifest = PipelineManifest()
        let config = body.object("config", what: "the pipeline's config")
        manifest.environmentVariables = variables([config, body])
        manifest.secrets = secrets([config, body], &references)
        manifest.triggers = readTriggers(body, &references)
        manifest.functionDeployments = readDeployments(body, &references)
        manifest.links = readLinks(body)
        manifest.tables = readTables(body, tables, &references)
        return manifest
    }

    private static func readTriggers(
        _ body: DocumentReader,
        _ references: inout ManifestReferences
    ) -> [PipelineManifest.TriggerInstance] {
        entries(body, "triggers", what: "a trigger of the pipeline", shorthand: "vrn").map { entry in
            let aliases = ["trigger_vrn", "trigger"]
            let trigger = resource(entry, "vrn", aliases: aliases, kind: .triggers)
            if let trigger {
                let field = written(entry, "vrn", aliases)
                references.add(.triggers, trigger, field: entry.path(of: field), line: entry.line(of: field))
            }
            entry.ignore("type", "guid", "id")
            return .init(name: instanceName(entry, fallback: trigger), trigger: trigger ?? "")
        }
    }

    // MARK: Pieces that several places share

    /// The entries of a list of objects; a bare name stands for an object with one field.
    static func entries(
        _ body: DocumentReader,
        _ field: String,
        aliases: [String] = [],
        what: String,
        shorthand: String
    ) -> [DocumentReader] {
        guard let (path, value) = body.value(field, aliases: aliases) else { return [] }
        let elements: [JSONValue]
        switch value {
        case .array(let list): elements = list
        case .object: elements = [value]
        default:
            body.fail(
                at: path,
                "\(DocumentReader.show(value)) is not a list",
                fix: "write a list, each entry on a '- ' line"
            )
            return []
        }
        guard elements.count <= entriesMax else {
            body.fail(at: path, "\(elements.count) entries", fix: "write at most \(entriesMax)")
            return []
        }
        return elements.enumerated().map { index, element in
            let entryPath =
                path.hasSuffix("]") || elements.count > 1 || value.arrayValue != nil ? "\(path)[\(index)]" : path
            if case .string = element {
                return body.child(
                    .object(JSONObject(members: [.init(key: shorthand, value: element)])),
                    path: entryPath,
                    what: what
                )
            }
            return body.child(element, path: entryPath, what: what)
        }
    }

    /// An instance's name, which is the resource's own where none is given.
    static func instanceName(_ entry: DocumentReader, fallback: String?) -> String {
        guard let name = entry.string("name", required: fallback == nil) ?? fallback else { return "" }
        if !ResourceName.isValidName(name) {
            entry.fail(
                "name",
                "'\(name.prefix(140))' is not a usable instance name",
                fix: "use 1 to 128 letters, digits, '.', '_' or '-', starting with a letter or digit"
            )
        }
        return name
    }

    /// The bare name of a resource that is given by full or bare name.
    static func resource(
        _ entry: DocumentReader,
        _ field: String,
        aliases: [String],
        kind: ResourceKind,
        required: Bool = true
    ) -> String? {
        guard let text = entry.string(field, aliases: aliases, required: required) else { return nil }
        let written = written(entry, field, aliases)
        let trimmed = text.trimmed
        var name = trimmed
        if let full = ResourceName(trimmed) {
            guard full.kind == kind.rawValue else {
                entry.fail(
                    written,
                    "'\(trimmed)' names one of \(full.kind), not a \(kind.noun)",
                    fix: "write \(ResourceName(kind: kind, name: full.name)) or only the name"
                )
                return nil
            }
            name = kind == .topics ? full.topicName : full.name
        } else if kind == .topics, let slash = trimmed.firstIndex(of: "/") {
            name = String(trimmed[trimmed.index(after: slash)...])
        }
        guard ResourceName.isValidName(name) else {
            entry.fail(
                written,
                "'\(text.prefix(140))' is neither a \(kind.noun)'s name nor its full resource name",
                fix: "write the name, or vast:dataengine:\(kind.rawValue):<name>"
            )
            return nil
        }
        return name
    }

    /// The name a field is written under.
    static func written(_ entry: DocumentReader, _ field: String, _ aliases: [String]) -> String {
        ([field] + aliases).first { entry.has($0) } ?? field
    }

    /// Variables from whichever of the readers has them; later readers add to earlier ones.
    static func variables(_ readers: [DocumentReader?]) -> [PipelineManifest.EnvironmentVariable] {
        var variables: [PipelineManifest.EnvironmentVariable] = []
        var seen: Set<String> = []
        for case let reader? in readers {
            for found in VariableList.read(reader) {
                guard seen.insert(found.variable.name).inserted else {
                    reader.fail(
                        at: found.path,
                        "variable '\(found.variable.name)' is given twice",
                        fix: "keep one of them"
                    )
                    continue
                }
                variables.append(found.variable)
            }
        }
        return variables
    }

    /// Names of secrets from whichever of the readers has them, without repetitions.
    static func secrets(_ readers: [DocumentReader?], _ references: inout ManifestReferences) -> [String] {
        var names: [String] = []
        for case let reader? in readers {
            guard let (path, value) = reader.value("secrets", aliases: ["secret_names"]) else { continue }
            let elements: [JSONValue] =
                switch value {
                case .array(let list): list
                case .string(let text): text.split(separator: ",").map { .string($0.trimmed) }
                default: [value]
                }
            for (index, element) in elements.prefix(entriesMax).enumerated() {
                let text = DocumentReader.text(element["name"] ?? element)?.trimmed
                let name = text.flatMap { ResourceName($0)?.name ?? $0 } ?? ""
                guard ResourceName.isValidName(name) else {
                    let shown = DocumentReader.show(element)
                    reader.fail(
                        at: "\(path)[\(index)]",
                        "\(shown) is not a secret's name",
                        fix: "write the secret's name"
                    )
                    continue
                }
                guard !names.contains(name) else { continue }
                names.append(name)
                let field = value.arrayValue == nil ? path : "\(path)[\(index)]"
                references.add(.secrets, name, field: field, line: reader.line(at: field))
            }
        }
        return names
    }
}

extension StringProtocol {
    /// The text without white space around it.
    var trimmed: String {
        var slice = self[...]
        while let first = slice.first, first.isWhitespace { slice = slice.dropFirst() }
        while let last = slice.last, last.isWhitespace { slice = slice.dropLast() }
        return String(slice)
    }
}
