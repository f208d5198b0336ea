// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore
import Views

/// Element events as they are written to topics, and read back after a crash.
struct ElementEvent {
    let settings: TriggerSettings
    let view: String
    /// Absolute path of the view's directory.
    let root: String

    /// An id that follows from the trigger and what happened; `salt` tells apart what metadata cannot.
    static func id(_ change: ElementChange, trigger: String, salt: UInt64 = 0) -> UInt64 {
        var hash = StableHash()
        hash.add(trigger)
        hash.add(change.key)
        hash.add(ElementEventName.subtype(change.kind))
        hash.add(change.state.inode)
        hash.add(UInt64(bitPattern: change.state.sizeBytes))
        hash.add(UInt64(bitPattern: change.state.modifiedNanos))
        hash.add(UInt64(bitPattern: change.state.changedNanos))
        if let tag = change.tag {
            hash.add(tag.name)
            hash.add(tag.value)
        }
        if salt > 0 { hash.add(salt) }
        // Ids must read as positive 64-bit integers.
        return hash.value.low >> 1
    }

    static func source(_ trigger: ActiveTrigger, authority: String) -> String {
        "\(authority):\(trigger.name).\(trigger.guid)"
    }

    func event(_ change: ElementChange, trigger: ActiveTrigger, id: UInt64) -> CloudEvent {
        let id = String(id)
        var extensions = [
            CloudEvent.Extension("elementpath", "\(view)/\(change.key)"),
            CloudEvent.Extension("elementhandle", String(change.state.inode)),
            CloudEvent.Extension("elementsourcetype", "martlet:file"),
            CloudEvent.Extension("elementurl", PercentEncoding.fileURL("\(root)/\(change.key)")),
            CloudEvent.Extension("traceparent", TraceContext(triggerOf: id).traceparent),
        ]
        for (name, value) in trigger.extensions { extensions.append(CloudEvent.Extension(name, value)) }
        return CloudEvent(
            id: id,
            source: Self.source(trigger, authority: settings.authority),
            type: "\(settings.authority):Element.\(ElementEventName.subtype(change.kind))",
            subject: "\(settings.broker).\(trigger.topic)",
            time: Timestamp.format(microseconds: change.seenMicros),
            dataContentType: "application/json",
            extensions: extensions,
            data: data(change, trigger: trigger, id: id)
        )
    }

    /// The payload in the form of an S3 event record.
    private func data(_ change: ElementChange, trigger: ActiveTrigger, id: String) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(900)
        func raw(_ text: StaticString) {
            out.append(contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
        }
        func string(_ text: String) { JSONWriter.append(text, to: &out) }
        let principal = change.owner.map { String($0) } ?? "unknown"
        raw("{\"Records\":[{\"eventVersion\":\"2.2\",\"eventSource\":\"martlet:file\",\"awsRegion\":")
        string(settings.region)
        raw(",\"eventTime\":")
        string(Timestamp.format(microseconds: change.seenMicros))
        raw(",\"eventName\":")
        string(ElementEventName.precise(change.kind))
        raw(",\"userIdentity\":{\"principalId\":")
        string(principal)
        raw("},\"requestParameters\":{\"sourceIPAddress\":\"127.0.0.1\"},\"responseElements\":{\"x-amz-request-id\":")
        string("0x" + TraceContext.text(UInt64(id) ?? 0))
        raw(",\"x-amz-id-2\":")
        string("0x" + TraceContext.text(change.state.inode))
        raw("},\"s3\":{\"s3SchemaVersion\":\"1.0\",\"configurationId\":")
        string("\(trigger.name).\(trigger.guid)")
        raw(",\"bucket\":{\"name\":")
        string(view)
        raw(",\"ownerIdentity\":{\"principalId\":")
        string(principal)
        raw("},\"arn\":")
        string("arn:aws:s3:::\(view)")
        raw("},\"object\":{\"key\":")
        string(PercentEncoding.key(change.key))
        raw(",\"size\":")
        JSONWriter.append(change.state.sizeBytes, to: &out)
        raw(",\"eTag\":")
        string(Self.contentTag(change.state))
        raw(",\"sequencer\":")
        string(TraceContext.text(UInt64(bitPattern: change.state.changedNanos)))
        if !change.state.tags.isEmpty {
            raw(",\"tags\":")
            let tags = change.state.tags.sorted { $0.key < $1.key }
            JSONWriter.append(
                .object(JSONObject(members: tags.map { JSONObject.Member(key: $0.key, value: .string($0.value)) })),
                to: &out
            )
        }
        if let tag = change.tag {
            raw(",\"tag\":{\"key\":")
            string(tag.name)
            raw(",\"value\":")
            string(tag.value)
            raw("}")
        }
        raw("}}}]}")
        return out
    }

    /// Inode, size and modification time: what stands for the content of a file.
    static func contentTag(_ state: ElementState) -> String {
        let size = UInt64(bitPattern: state.sizeBytes)
        return "\(String(state.inode, radix: 16))-\(String(size, radix: 16))-"
            + String(UInt64(bitPattern: state.modifiedNanos), radix: 16)
    }

    /// What an event of a topic says happened; nil where it is no element event of this form.
    static func change(_ event: CloudEvent) -> ElementChange? {
        guard let subtype = event.type.split(separator: ".").last, let kind = ElementEventName.kind(subtype: subtype),
            let path = event[extension: "elementpath"], let slash = path.firstIndex(of: "/"), let data = event.data,
            // An event of another form is not one of ours.
            let value = try? JSONValue(parsing: data),
            let object = value["Records"]?.arrayValue?.first?["s3"]?["object"],
            let size = object["size"]?.intValue, let content = object["eTag"]?.stringValue,
            let sequencer = object["sequencer"]?.stringValue, let changed = UInt64(sequencer, radix: 16)
        else { return nil }
        let parts = content.split(separator: "-").map { UInt64($0, radix: 16) }
        guard parts.count == 3, let inode = parts[0], let modified = parts[2] else { return nil }
        var tags: [String: String] = [:]
        for member in object["tags"]?.objectValue?.members ?? [] { tags[member.key] = member.value.stringValue ?? "" }
        let tag = object["tag"].flatMap { tag -> ElementChange.Tag? in
            guard let name = tag["key"]?.stringValue else { return nil }
            return ElementChange.Tag(name: name, value: tag["value"]?.stringValue ?? "")
        }
        return ElementChange(
            kind,
            key: String(path[path.index(after: slash)...]),
            state: ElementState(
                inode: inode,
                sizeBytes: size,
                modifiedNanos: Int64(bitPattern: modified),
                changedNanos: Int64(bitPattern: changed),
                tags: tags
            ),
            tag: tag,
            seenMicros: event.time.flatMap { Timestamp.parseMicroseconds($0) } ?? 0
        )
    }
}

/// Percent-encoding of paths.
package enum PercentEncoding {
    /// A key as S3 events write it: all but letters, digits and `-._~/` encoded.
    package static func key(_ key: String) -> String { encode(key) }

    /// The `file://` URL of an absolute path.
    package static func fileURL(_ path: String) -> String { "file://" + encode(path) }

    private static func encode(_ text: String) -> String {
        if text.utf8.allSatisfy(isPlain) { return text }
        let digits = Array("0123456789ABCDEF".utf8)
        var out: [UInt8] = []
        for byte in text.utf8 {
            if isPlain(byte) {
                out.append(byte)
            } else {
                out += [0x25, digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: out, as: UTF8.self)
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x2F, 0x5F, 0x7E: true
        default: false
        }
    }
}
