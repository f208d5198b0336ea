// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
import MartletCore

/// What a create or update document of a function says.
///
/// Accepted without effect, because a function needs no image here: `container_registry`, `container_registry_vrn`, `artifact_type`,
/// `architecture`, `runtime`, `resources` (they belong to deployments) and the read-only fields that `get` prints.
struct FunctionRequest: Sendable {
    var name: String?
    var description: String?
    var tags: [String]?
    var artifactSource: String?
    var imageTag: String?
    var handler: String?
    var publish: Bool?
    var alias: String?
    var revisionDescription: String?
    var defaultRevisionNumber: Int?

    init(_ document: Document, isUpdate: Bool) throws(ServiceError) {
        let reader = DocumentReader(document, what: "a function")
        name = reader.string("name", required: !isUpdate)
        if let name, !ResourceName.isValidName(name) {
            reader.fail(
                "name",
                "'\(name.prefix(140))' is not a usable name",
                fix: "use 1 to 128 letters, digits, '.', '_' or '-', starting with a letter or digit"
            )
        }
        description = reader.string("description")
        tags = reader.strings("tags")
        artifactSource = reader.string("artifact_source")
        imageTag = reader.string("image_tag")
        handler = reader.string("handler", aliases: ["handlers"])
        publish = reader.bool("publish")
        alias = reader.string("revision_alias", aliases: ["alias"])
        if let alias, !Self.isAlias(alias) {
            reader.fail(
                "revision_alias",
                "'\(alias.prefix(140))' is not a usable alias",
                fix: "use letters, digits, '.', '_' or '-', not only digits, and none of current, default, latest"
            )
        }
        revisionDescription = reader.string("revision_description")
        let number = reader.int("default_revision_number", in: 1...Int(Int32.max))
        reader.ignore(
            "container_registry",
            "container_registry_vrn",
            "artifact_type",
            "architecture",
            "runtime",
            "resources"
        )
        reader.ignore(
            "id",
            "guid",
            "vrn",
            "owner",
            "tenant_guid",
            "created_at",
            "updated_at",
            "status",
            "reason",
            "revisions"
        )
        reader.ignore(
            "last_revision_number",
            "last_published_revision_number",
            "full_image_path",
            "revision_number",
            "dry_run"
        )
        defaultRevisionNumber = number
        try reader.finish()
    }

    private static func isAlias(_ text: String) -> Bool {
        ResourceName.isValidName(text) && Int(text) == nil && !["current", "default", "latest"].contains(text)
    }
}
