# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""From the acknowledgement of a record until SQL counts it."""

import shutil

from . import tables_program
from .result import Bench, Result, percentiles

PROBES = 300
TRICKLE = 1000


def measure(bench: Bench) -> list[Result]:
    results = []
    for background in (0, TRICKLE):
        place = tables_program.place(bench, f"tables-visible-{background}")
        found = tables_program.run(bench, "visible", place, PROBES, background)
        shutil.rmtree(place)
        seen = percentiles(found["milliseconds"])
        query = percentiles(found["query_milliseconds"])
        results.append(
            Result(
                f"tables_visible_{background}",
                "record acknowledged → counted by SQL" + (f", beside {background:,} records/s" if background else ""),
                "p50 {p50:.1f} · p95 {p95:.1f} · p99 {p99:.1f} ms".format(**seen),
                "p50 ≤ 50 ms, p99 ≤ 500 ms", seen["p50"] <= 50 and seen["p99"] <= 500, values=found,
                note=f"{PROBES} records, each durable when acknowledged, one query after the other until it is counted; in one process, "
                f"without HTTP; a query takes {query['p50']:.1f} ms (p50)",
            )
        )  # fmt: skip
        if background:
            results.append(
                Result(
                    "tables_trickle", f"processor time for {TRICKLE:,} records/s one by one",
                    f"{found['trickle_processor_with_table']:.0%} of one processor", ratio=f"{found['trickle_processor']:.0%} without a table",
                    note=f"a table whose topic is quiet: {found['idle_processor']:.2%}",
                )
            )  # fmt: skip
    return results
