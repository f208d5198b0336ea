// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

extension OpenAPISchemas {
    /// Records of topics.
    static let records: [(name: String, text: String)] = [
        (
            "RecordHeader",
            #"""
            {"type":"object","required":["name"],"properties":{"name":{"type":"string"},"value":{"type":["string","null"]},
            "value_base64":{"type":"string","description":"In place of value where the bytes are not UTF-8."}}}
            """#
        ),
        (
            "Record",
            #"""
            {"type":"object","required":["partition","offset","timestamp","headers"],"properties":{"partition":{"type":"integer","minimum":0},
            "offset":{"type":"integer","minimum":0},"timestamp":{"type":"integer","description":"Milliseconds since 1970."},
            "key":{"type":["string","null"]},"key_base64":{"type":"string"},"value":{"type":["string","null"]},"value_base64":{"type":"string"},
            "headers":{"type":"array","items":{"$ref":"#/components/schemas/RecordHeader"}}}}
            """#
        ),
        (
            "RecordPage",
            #"""
            {"type":"object","required":["data","partitions","at_end","pagination"],"properties":{
            "data":{"type":"array","items":{"$ref":"#/components/schemas/Record"}},
            "partitions":{"type":"array","items":{"type":"object","required":["partition","next_offset","end_offset"],"properties":{
            "partition":{"type":"integer"},"next_offset":{"type":"integer"},"end_offset":{"type":"integer"}}}},
            "at_end":{"type":"boolean","description":"Whether nothing was left to read."},
            "pagination":{"$ref":"#/components/schemas/Pagination"}}}
            """#
        ),
        (
            "NewRecordList",
            #"""
            {"type":"object","additionalProperties":false,"required":["records"],"properties":{"records":{"type":"array","minItems":1,"maxItems":100000,
            "items":{"type":"object","additionalProperties":false,"properties":{
            "partition":{"type":"integer","minimum":0,"maximum":9999,"description":"Without it the key chooses, as with Kafka's clients."},
            "timestamp":{"type":"integer","minimum":0,"description":"Milliseconds since 1970; without it now."},
            "key":{"type":["string","null"]},"key_base64":{"type":"string"},"value":{"type":["string","null"]},"value_base64":{"type":"string"},
            "headers":{"type":"array","maxItems":1000,"items":{"$ref":"#/components/schemas/RecordHeader"}},
            "offset":{"type":"integer","description":"Ignored, so that records can be written as they were read."}}}}},
            "examples":[{"records":[{"key":"a","value":"{\"frame\":1}","headers":[{"name":"kind","value":"exr"}]}]}]}
            """#
        ),
        (
            "RecordPlaceList",
            #"""
            {"type":"object","required":["count","data"],"properties":{"count":{"type":"integer"},"data":{"type":"array","items":{"type":"object",
            "required":["partition","offset"],"properties":{"partition":{"type":"integer"},"offset":{"type":"integer"}}}}}}
            """#
        ),
    ]
}
