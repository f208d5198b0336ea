# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What sinks add to the engine's memory is bounded by `tables.sink-memory-mib`, for wide, large and partitioned records at once."""

import json
import random
from pathlib import Path

import append_tables as tables
import pytest
from harness import Engine, until

SMALL_MIB, LARGE_MIB = 96, 1024
# What the allocator holds back, pages of DuckDB's library that a first commit reads, and HTTP.
BESIDES = 96 << 20
WIDE_COLUMNS = 500
PER_REQUEST = 2_000


def wide(chance: random.Random, index: int) -> dict:
    """Few fields of many: a row in memory takes fifty times what its record takes."""
    return {f"f{chance.randrange(WIDE_COLUMNS)}": f"value {index}" for _ in range(10)} | {"n": index}


def large(chance: random.Random, index: int) -> dict:
    return {"n": index, "kind": f"k{index % 40}", "text": chance.choice("abc") * 300_000}


def narrow(chance: random.Random, index: int) -> dict:
    return {"n": index, "kind": f"k{index % 40}", "user": f"user-{chance.randrange(10_000)}", "price": index / 8, "ok": index % 3 == 0}


# Few enough that no table has eight files in a folder: merging them has memory of its own.
LOADS = {"wide": (wide, 6_000), "large": (large, 200), "narrow": (narrow, 120_000)}


def status(engine: Engine, name: str) -> int:
    """Bytes of a line of the engine's status in /proc."""
    lines = Path(f"/proc/{engine.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))


def publish(engine: Engine) -> None:
    chance = random.Random(7)
    for topic, (make, count) in LOADS.items():
        engine.post("topics", {"name": topic, "partitions": 2})
        step = 20 if topic == "large" else PER_REQUEST
        for first in range(0, count, step):
            values = [make(chance, index) for index in range(first, min(first + step, count))]
            tables.publish(engine, topic, *values, first=first)


def growth(engine: Engine, mebibytes: int) -> int:
    """What five tables of three topics, all at once, add to the engine's memory at the most."""
    engine.settings["MARTLET_TABLES_SINK_MEMORY_MIB"] = str(mebibytes)
    engine.start()
    engine.sql("select 1")
    idle = status(engine, "VmRSS")
    Path(f"/proc/{engine.process.pid}/clear_refs").write_text("5")
    kind = {"columns": {"kind": "VARCHAR"}, "partition_by": ["kind"]}
    names = []
    for topic in LOADS:
        for part, settings in enumerate([{}] if topic == "wide" else [{}, kind]):
            names.append(f"{topic}_{part}")
            tables.make(engine, names[-1], topic, commit_seconds=3600, **settings)

    def is_done() -> bool:
        found = [engine.get(f"tables/{name}") for name in names]
        return all(one["rows"] == LOADS[one["topic"]][1] for one in found)

    until(is_done, "all tables have taken their topics", 180, every=0.5)
    for name in names:
        tables.commit(engine, name)
    peak = status(engine, "VmHWM")
    print(f"{mebibytes} MiB: {idle / 1e6:.0f} MB idle, {peak / 1e6:.0f} MB at the most, {(peak - idle) / 1e6:.0f} MB more")
    for topic, (_, count) in LOADS.items():
        for name in (name for name in names if name.startswith(topic)):
            assert engine.sql(f"select count(*), count(distinct n), sum(n) from {name}") == [
                [count, count, str(count * (count - 1) // 2)]
            ]
            assert engine.sql(f"select count(*) from {name}__rejected") == [[0]]
            tables.check_history(engine, name)
            engine.http("DELETE", f"/api/v1/tables/{name}")
    engine.stop()
    return peak - idle


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs /proc/PID/clear_refs")
def test_a_setting_bounds_the_memory_of_all_sinks(make_engine):
    engine = make_engine()
    engine.start()
    publish(engine)
    engine.stop()
    small = growth(engine, SMALL_MIB)
    free = growth(engine, LARGE_MIB)
    assert small <= (SMALL_MIB << 20) + BESIDES
    # Otherwise the load is too small to say anything.
    assert free > 1.5 * ((SMALL_MIB << 20) + BESIDES), json.dumps({"small": small, "free": free})


def test_a_setting_that_no_sink_can_work_with_is_refused(make_engine):
    engine = make_engine(settings={"MARTLET_TABLES_SINK_MEMORY_MIB": "3"})
    assert engine.launch().wait(30) != 0
    assert "tables.sink-memory-mib" in engine.log_tail() and "16 to" in engine.log_tail()
