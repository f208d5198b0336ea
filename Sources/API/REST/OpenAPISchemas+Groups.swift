// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

extension OpenAPISchemas {
    /// Consumer groups.
    static let groups: [(name: String, text: String)] = [
        (
            "Group",
            #"{"type":"object","required":[\#(groupRequired)],"properties":{\#(groupProperties)}}"#
        ),
        groupList("GroupList", of: "Group"),
        (
            "GroupStatus",
            #"""
            {"type":"object","required":[\#(groupRequired),"generation","protocol_name","members","partitions"],"properties":{\#(groupProperties),
            "generation":{"type":"integer","description":"The number of the current assignment."},"protocol_name":{"type":"string"},
            "members":{"type":"array","items":{"type":"object","required":["member_id","client_id","client_host","partition_count"],
            "properties":{"member_id":{"type":"string"},"instance_id":{"type":"string"},"client_id":{"type":"string"},"client_host":{"type":"string"},
            "partition_count":{"type":"integer"}}}},
            "partitions":{"type":"array","items":{"type":"object","required":["topic","partition","start_offset","end_offset","lag_records","lag_seconds"],
            "properties":{"topic":{"type":"string"},"partition":{"type":"integer"},"committed_offset":{"type":"integer"},"start_offset":{"type":"integer"},
            "end_offset":{"type":"integer"},"lag_records":{"type":"integer"},"lag_seconds":{"type":"number"},"metadata":{"type":"string"},
            "committed_at":{"type":"string","format":"date-time"},"member_id":{"type":"string"}}}}}}
            """#
        ),
        (
            "GroupReset",
            #"""
            {"type":"object","additionalProperties":false,"description":"One of to, time, offset and by.",
            "properties":{"to":{"type":"string","enum":["earliest","latest"]},
            "time":{"type":"string","pattern":"\#(escapedTimePattern)","description":"The first record of this time or later."},
            "offset":{"type":"integer"},"by":{"type":"integer","description":"So many records on; back where negative."},
            "topics":{"type":"array","items":{"type":"string"},"description":"Only these; without it all the group has offsets in."},
            "partitions":{"type":"array","items":{"type":"integer","minimum":0}}},
            "examples":[{"to":"earliest"},{"time":"2h","topics":["frames"]},{"by":-100,"topics":["frames"],"partitions":[0]}]}
            """#
        ),
        (
            "GroupResetOutcome",
            #"""
            {"type":"object","required":["topic","partition","new_offset"],"properties":{"topic":{"type":"string"},"partition":{"type":"integer"},
            "old_offset":{"type":"integer"},"new_offset":{"type":"integer"}}}
            """#
        ),
        groupList("GroupResetList", of: "GroupResetOutcome"),
        (
            "NewGroupReader",
            #"""
            {"type":"object","additionalProperties":false,"required":["topic"],"properties":{"topic":{"type":"string"},
            "from":{"type":"string","description":"Where to begin in partitions the group has no offset in: earliest, latest, RFC 3339 or a time ago such as 2h.","default":"earliest"}},
            "examples":[{"topic":"frames"},{"topic":"frames","from":"latest"}]}
            """#
        ),
        ("GroupReader", #"{"type":"object","required":["id"],"properties":{"id":{"type":"string"}}}"#),
        (
            "GroupReadRequest",
            #"""
            {"type":"object","additionalProperties":false,"properties":{
            "acknowledge":{"type":"integer","minimum":0,"description":"The member acknowledge of an answer: its records, and all given before, are done with. What was given and is not acknowledged is given again."},
            "limit":{"type":"integer","minimum":1,"maximum":5000,"default":100},
            "wait":{"type":"integer","minimum":0,"maximum":30000,"default":0,"description":"Milliseconds to wait for a record."},
            "stop_at_end":{"type":"boolean","default":false,"description":"Answer at once where the group has acknowledged all there is."}},
            "examples":[{"acknowledge":17,"wait":1000}]}
            """#
        ),
        (
            "GroupRecords",
            #"""
            {"type":"object","required":["data","acknowledge","at_end"],"properties":{
            "data":{"type":"array","items":{"$ref":"#/components/schemas/Record"}},
            "acknowledge":{"type":"integer","description":"Sent with the next request when these records are done with."},
            "at_end":{"type":"boolean","description":"Whether the group has acknowledged all there is."}}}
            """#
        ),
    ]

    private static let groupRequired =
        #""name","state","protocol_type","member_count","topics","lag_records","lag_seconds","is_internal""#

    private static let groupProperties = #"""
        "name":{"type":"string"},"state":{"type":"string","enum":["Empty","PreparingRebalance","CompletingRebalance","Stable","Dead"]},
        "protocol_type":{"type":"string"},"member_count":{"type":"integer"},"topics":{"type":"array","items":{"type":"string"}},
        "lag_records":{"type":"integer","description":"Records after the committed offsets."},
        "lag_seconds":{"type":"number","description":"Age of the oldest of them."},
        "is_internal":{"type":"boolean","description":"One of the engine's own, which cannot be changed here."}
        """#

    /// The pattern as it stands inside a JSON string.
    private static let escapedTimePattern = timePattern.replacing("\\", with: "\\\\")

    private static func groupList(_ name: String, of item: String) -> (name: String, text: String) {
        (
            name,
            ##"""
            {"type":"object","required":["data","pagination"],"additionalProperties":false,
            "properties":{"data":{"type":"array","items":{"$ref":"#/components/schemas/\##(item)"}},"pagination":{"$ref":"#/components/schemas/Pagination"}}}
            """##
        )
    }
}
