// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MartletCore

struct InvokeFunction: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "invoke",
        "Send an event to a function that runs locally.",
        discussion: """
            The event goes to --url as structured CloudEvents JSON. A file has the attributes and 'data' at its top level, in YAML \
            or JSON; id, source, type and time are filled in where they are missing. Without a file a small test event is \
            generated, which names no file; the function's cloudevent.yaml is an event as a view's trigger sends it.
            """,
        examples: [
            "martlet functions invoke -g",
            "martlet functions invoke -e hello/cloudevent.yaml",
            "martlet functions invoke -e cloudevent.yaml --url http://localhost:8081/",
            "martlet functions invoke -g -t vastdata.com:Schedule.TimerElapsed",
        ]
    )

    @Argument(help: "Accepted, without effect: the URL says which function.") var name: String?
    @Flag(name: [.customShort("g"), .long], help: "Send a generated event.") var generateEvent = false
    @Option(name: [.short, .long], help: "File with the event (- for standard input).", completion: .file()) var event:
        String?
    @Option(name: [.customShort("t"), .long], help: "Type of the event.") var eventType: String?
    @Option(name: [.short, .long], help: "Where the function listens.") var url = "http://localhost:8080/"
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func validate() throws {
        if generateEvent, event != nil { throw ValidationError("Give either --generate-event or --event, not both.") }
    }

    func execute(_ client: EngineClient) async throws {
        let document: EventDocument
        if let event {
            let file = try InputFile(event, session: client.session)
            let (written, isList) = try WrittenEvent.read(file)
            guard !isList, let event = written.first else {
                throw CommandFailure(
                    .refused,
                    "\(file.name) has a list, and a function is given one event",
                    fix: "write one event, or publish the list with: martlet topics publish"
                )
            }
            document = try EventDocument(completing: event, name: file.name, type: eventType)
        } else {
            document = EventDocument(generatedOf: eventType)
        }
        let (server, path) = try target()
        var request = APIRequest("POST", [], accept: "*/*", base: path)
        request.body = .init(bytes: document.bytes, contentType: "application/cloudevents+json")
        if client.options.dryRun {
            try client.session.output.line("[DRY RUN] Would send POST \(url)")
            return try client.session.output.write(JSONText.pretty(JSONValue(parsing: document.bytes)).utf8)
        }
        let sent = request
        let seconds = client.settings.timeout
        let (status, answer) = try await Transport.with(
            server: server,
            token: nil,
            seconds: seconds,
            hint: "start the function with: martlet functions localrun (or name its address with --url)"
        ) { transport in
            let answer = try await transport.send(sent)
            return (answer.status, try await transport.collect(answer, of: sent, limit: 64 << 20))
        }
        let text = String(decoding: answer, as: UTF8.self)
        guard status < 300 else {
            throw CommandFailure(
                .failure,
                "the function at \(url) answered event \(document.id) with status \(status)",
                trace: text
            )
        }
        let result: JSONValue = [
            "event_id": .string(document.id), "event_type": .string(document.type), "status": .int(Int64(status)),
        ]
        try client.confirm(result) {
            var list = FieldList()
            list.add("Event ID", document.id)
            list.add("Event Type", document.type)
            let body = text.isEmpty ? "" : Sanitizer.cleanLines(text) + "\n"
            return list.text(style: client.style) + "CloudEvent sent successfully (Status: \(status))\n" + body
        }
    }

    private func target() throws -> (server: String, path: String) {
        let address = url.contains("://") ? url : "http://" + url
        guard let components = URLComponents(string: address), let scheme = components.scheme,
            ["http", "https"].contains(scheme), let host = components.percentEncodedHost, !host.isEmpty
        else {
            throw CommandFailure.usage("--url '\(url)' is not an address", fix: "write it like http://localhost:8080/")
        }
        let port = components.port.map { ":\($0)" } ?? ""
        let query = components.percentEncodedQuery.map { "?" + $0 } ?? ""
        let path = components.percentEncodedPath.isEmpty ? "/" : components.percentEncodedPath
        return ("\(scheme)://\(host)\(port)", path + query)
    }
}
