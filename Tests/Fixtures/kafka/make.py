#!/usr/bin/env python3
# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Writes messages.jsonl: requests and responses of the Kafka protocol as kafka-python encodes them, with the values inside.

    .venv/bin/python Tests/Fixtures/kafka/make.py            # write the file
    .venv/bin/python Tests/Fixtures/kafka/make.py --check    # compare only

Each message that Sources/KafkaCodec knows, in each version: once filled at random, once with nulls, empty values and extreme numbers,
once with defaults. The numbers follow from the message's name, so the file is always the same.
"""

import argparse
import importlib.machinery
import importlib.util
import json
import random
import sys
import uuid
from pathlib import Path

import kafka.protocol.admin
import kafka.protocol.consumer
import kafka.protocol.consumer.metadata
import kafka.protocol.metadata
import kafka.protocol.producer
import kafka.protocol.sasl
from kafka.protocol.api_message import ApiMessage

HERE = Path(__file__).resolve().parent
TARGET = HERE / "messages.jsonl"
WORDS = ["", "a", "topic-1", "größe", "Ωμέγα", "x" * 130, "日本語", "orders.eu", "🙂"]
# kafka-python renames these fields, and has sets of bits in them.
RENAMED = {
    "MetadataResponse": "clusterAuthorizedOperations", "MetadataResponseTopic": "topicAuthorizedOperations",
    "DescribeClusterResponse": "clusterAuthorizedOperations",
}  # fmt: skip
EXTREMES = {"int8": 7, "int16": 15, "int32": 31, "int64": 63}


def load(name, path):
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


GENERATOR = load("generate_kafka", HERE.parents[2] / "Tools/generate-kafka")


def value(field, kind, version, style, chance):
    """A value for kafka-python, and the same for the file."""
    if kind == "bool":
        one = chance.random() < 0.5
        return one, one
    if kind in EXTREMES:
        bits = EXTREMES[kind]
        if field._name.endswith("ErrorCode") or field._name == "ErrorCode":
            one = chance.choice([-1, 0, 3, 79, 133])
        elif style == "edge":
            one = chance.choice([-(1 << bits), (1 << bits) - 1])
        else:
            one = chance.randrange(-(1 << bits), 1 << bits) >> chance.randrange(bits)
        return one, one
    if kind == "bitfield":
        bits = {chance.randrange(31) for _ in range(3)}
        return bits, sum(1 << bit for bit in bits)
    if kind == "uint16":
        one = chance.randrange(1 << 16)
        return one, one
    if kind == "uuid":
        one = uuid.UUID(int=chance.getrandbits(128) | 1)
        return one, str(one)
    if kind == "string":
        one = "" if style == "edge" else chance.choice(WORDS)
        return one, one
    if kind in ("bytes", "records"):
        one = b"" if style == "edge" else chance.randbytes(chance.choice([1, 3, 5, 9, 20, 130]))
        return one, one.hex()
    raise ValueError(kind)


def filled(fields, container, version, style, chance):
    """A struct for kafka-python, and its fields for the file."""
    given, shown = {}, {}
    for field in fields:
        if not field.for_version_q(version) or (style == "edge" and field.tag is not None):
            continue
        name, kind = GENERATOR.lowered(field._name), field._type_str.removeprefix("[]")
        if name == "authorized_operations":
            name = RENAMED[container.__name__]
        if style == "edge" and field.nullable_for_version_q(version):
            given[field.name], shown[name] = None, None
        elif field.is_array():
            count = 0 if style == "edge" and chance.random() < 0.3 else chance.choice([1, 1, 2])
            if field.tag is not None:
                count = max(1, count)
            if field.is_struct_array():
                pairs = [filled(field.array_of._fields, field.data_class, version, style, chance) for _ in range(count)]
            else:
                pairs = [value(field, kind, version, style, chance) for _ in range(count)]
            given[field.name], shown[name] = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        elif field.is_struct():
            given[field.name], shown[name] = filled(field._fields, field.data_class, version, style, chance)
        else:
            given[field.name], shown[name] = value(field, kind, version, style, chance)
    return container(version=version, **given), shown


def classes():
    found = {}

    def add(one):
        for inner in one.__subclasses__():
            found[inner.__name__] = inner
            add(inner)

    add(ApiMessage)
    return found


def messages():
    known = classes()
    for api, (low, high) in GENERATOR.APIS.items():
        for kind in ("Request", "Response"):
            name = api + kind
            container = known[name]
            for version in range(low, high + 1):
                for style in ("random", "edge", "defaults"):
                    chance = random.Random(f"{name} {version} {style}")
                    message, shown = container(version=version), {}
                    if style != "defaults":
                        message, shown = filled(container._struct._fields, container, version, style, chance)
                    elif any(field.is_struct() and field.for_version_q(version) and field.tag is None for field in container._struct._fields):
                        message, shown = filled(container._struct._fields, container, version, "edge", chance)
                    correlation = chance.getrandbits(31)
                    message.with_header(correlation_id=correlation, **({"client_id": chance.choice(WORDS)} if kind == "Request" else {}))
                    head = {"correlationID": correlation}
                    if kind == "Request":
                        head["clientID"] = message.header.client_id
                    frame = bytes(message.encode(header=True, framed=True))
                    yield {"type": name, "version": version, "header": head, "fields": shown, "bytes": frame.hex()}
    for name, (low, high) in GENERATOR.CONSUMER.items():
        container = getattr(kafka.protocol.consumer.metadata, name)
        for version in range(low, high + 1):
            for style in ("random", "edge"):
                chance = random.Random(f"{name} {version} {style}")
                message, shown = filled(container._struct._fields, container, version, style, chance)
                # The version stands in front of the fields.
                yield {"type": name, "version": version, "fields": shown, "bytes": bytes(message.encode()).hex()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only")
    arguments = parser.parse_args()
    made = "".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")) + "\n" for one in messages())
    if arguments.check:
        if not TARGET.exists() or TARGET.read_text() != made:
            sys.exit(f"{TARGET.name} is not what make.py writes")
        return
    TARGET.write_text(made)
    print(f"{made.count(chr(10))} messages, {len(made)} bytes")


if __name__ == "__main__":
    main()
