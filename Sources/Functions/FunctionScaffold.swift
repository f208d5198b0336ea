// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// The folder `functions init` makes for a new function.
package enum FunctionScaffold {
    /// Runtimes a scaffold exists for.
    package static let runtimes = ["python-pip"]

    /// Makes the folder of a new function; blocks.
    ///
    /// - Returns: The files written, in order.
    /// - Throws: `.invalid` for an unknown runtime, name or handler; `.alreadyExists` for a folder with something in it unless
    ///   `force` is set, which replaces files of the same names and leaves others alone.
    package static func write(
        runtime: String,
        name: String,
        to directory: String,
        handler: String = "main.py",
        force: Bool = false
    ) throws -> [String] {
        guard runtimes.contains(runtime) else {
            throw ServiceError.invalid(
                field: "runtime",
                "there is no scaffold for '\(runtime.prefix(100))'",
                fix: "write \(runtimes.joined(separator: " or "))"
            )
        }
        try ResourceName.check(name)
        guard handler.hasSuffix(".py"), handler.count > 3, !handler.contains("/") else {
            throw ServiceError.invalid(
                field: "handlers",
                "'\(handler)' is no Python file's name",
                fix: "write for example main.py"
            )
        }
        let manager = FileManager.default
        var isDirectory: ObjCBool = false
        if manager.fileExists(atPath: directory, isDirectory: &isDirectory) {
            let isEmpty = isDirectory.boolValue ? try manager.contentsOfDirectory(atPath: directory).isEmpty : false
            guard isEmpty || (force && isDirectory.boolValue) else {
                throw ServiceError(
                    .alreadyExists,
                    isDirectory.boolValue ? "the folder \(directory) is not empty" : "\(directory) is a file",
                    fix: "name an empty or new folder with --target, or add --force to write into this one"
                )
            }
        }
        try manager.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let files = files(name: name, handler: handler)
        for file in files {
            try Data(file.content.utf8).write(to: URL(fileURLWithPath: "\(directory)/\(file.path)"))
        }
        return files.map(\.path)
    }

    /// The files of a new function.
    package static func files(name: String, handler: String = "main.py") -> [(path: String, content: String)] {
        [
            (handler, code), ("requirements.txt", requirements), ("Aptfile", aptfile), ("customDeps", libraries),
            ("README.md", readme(name: name, handler: handler)), ("config.yaml", config), ("cloudevent.yaml", event),
        ]
    }

    private static let code = """
        def init(ctx):
            \"\"\"Runs once in each worker, before the first event. What is set on ctx is there in every call.\"\"\"
            ctx.logger.info("init of %s", ctx.function_name)


        def handler(ctx, event):
            \"\"\"Runs for each event. What it returns goes to the next function of the pipeline.\"\"\"
            ctx.logger.info("event %s of type %s", event.id, event.type)
            return "Hello World"

        """

    private static let requirements = """
        # Python packages of this function, one a line, as pip reads them. Pin versions: builds are cached by this file.

        """

    private static let aptfile = """
        # Debian packages this function needs, one a line.

        """

    private static let libraries = """
        # Local Python libraries of this function, one path a line: relative to this folder, or absolute on the engine's machine.

        """

    private static let config = """
        # Read by `martlet functions localrun --config config.yaml`.
        envs:
          GREETING: hello
        secrets:
          example:
            password: change-me

        """

    private static let event = """
        # Sent by `martlet functions invoke --event cloudevent.yaml`.
        specversion: "1.0"
        id: "1004356627333135"
        type: vastdata.com:Element.ElementCreated
        source: vastdata.com:example-trigger.2f1b7f0e-2d5c-4a55-9d3e-0c6f8f1d7c11
        subject: vast-broker-local.default
        time: "2026-04-08T15:41:29.591955+00:00"
        datacontenttype: application/json
        elementpath: example-view/folder/file.txt
        elementhandle: "8025198034623744117"
        elementsourcetype: vast:s3
        data:
          Records:
            - eventVersion: "2.2"
              eventSource: vast:s3
              eventName: ObjectCreated:Put
              eventTime: "2026-04-08T15:41:29.591Z"
              s3:
                s3SchemaVersion: "1.0"
                bucket: {name: example-view}
                object: {key: folder/file.txt, size: 15}

        """

    private static func readme(name: String, handler: String) -> String {
        """
        # \(name)

        A function: `\(handler)` has `init(ctx)`, called once in each worker, and `handler(ctx, event)`, called for each event.

        | file | what it is for |
        |---|---|
        | `\(handler)` | the code |
        | `requirements.txt` | Python packages |
        | `Aptfile` | Debian packages, one a line |
        | `customDeps` | local Python libraries, one path a line |
        | `config.yaml` | variables and secrets for running it on this machine |
        | `cloudevent.yaml` | an event to try it with |

        ## Try it

            martlet functions build \(name) --target .
            martlet functions localrun \(name) --config config.yaml
            martlet functions invoke --event cloudevent.yaml

        ## Use it

            martlet functions create --name \(name) --artifact-source \(name) --image-tag latest --publish

        Then name it in a pipeline's manifest: `function_vrn: vast:dataengine:functions:\(name)`.

        ## What ctx and event offer

        `ctx.logger`, `ctx.tracer`, `ctx.secrets["name"]["key"]`, `ctx.tables["name"].upsert(rows, key=[...])`, `ctx.emit(topic, ...)`;
        `event.id`, `event.type`, `event.subtype`, `event.bucket`, `event.object_key`, `event.get_data()`.

        """
    }
}
