# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Queries over many files."""

import re
import shutil

from . import tables_program
from .engine import BenchmarkError
from .result import Bench, Result, median

COMMITS = 10_000
ROWS = 100
REPEATS = 7
FILES = 1000


def files_read(plan: str) -> int:
    """How many files DuckDB says it read."""
    found = [int(number) for number in re.findall(r"Total Files Read:\s*(\d+)", plan)]
    if not found:
        raise BenchmarkError(f"the plan does not say how many files were read:\n{plan}")
    return sum(found)


def commits(bench: Bench) -> list[Result]:
    place = tables_program.place(bench, "tables-commits")
    found = tables_program.run(bench, "commits", place, COMMITS, ROWS, REPEATS)
    shutil.rmtree(place)
    many, pattern, after, alone = (
        median(found[f"{name}_milliseconds"]) for name in ("many", "pattern", "after", "by_hand")
    )
    shares = found["share_milliseconds"]
    return [
        Result(
            "tables_commits", f"a query over {found['many_files']:,} files of small commits", f"{many:,.0f} ms",
            ratio=f"{many / pattern:.2f}× DuckDB alone ({pattern:,.0f} ms)", values=found,
            note=f"{COMMITS:,} commits of {ROWS} records took {found['commit_seconds']:.0f} s "
            f"({found['commit_seconds'] / COMMITS * 1000:.1f} ms each; the first tenth {shares[0]:.1f}, the last {shares[-1]:.1f}); "
            f"DuckDB alone reads the same files by a pattern",
        ),
        Result(
            "tables_compacted", f"the same after compaction ({found['files_after']} file{'s' * (found['files_after'] != 1)})", f"{after:.1f} ms",
            "≤ 1.3× of one file by hand", after <= 1.3 * alone, ratio=f"{after / alone:.2f}× ({alone:.1f} ms)",
            note=f"compaction took {found['compaction_seconds']:.1f} s beside queries, {len(found['meanwhile_milliseconds'])} of which were "
            f"answered meanwhile, with the same rows; median of {REPEATS}, taking turns with the file by hand",
        ),
    ]  # fmt: skip


def point(bench: Bench) -> list[Result]:
    place = tables_program.place(bench, "tables-point")
    found = tables_program.run(bench, "point", place, FILES, ROWS, REPEATS)
    shutil.rmtree(place)
    took, read = median(found["milliseconds"]), files_read(found["plan"])
    return [
        Result(
            "tables_point", f"one row by partition and number among {found['files']:,} files", f"{took:.1f} ms · {read} read",
            "≤ 1 % of files, ≤ 50 ms", took <= 50 and read <= found["files"] / 100, values=found,
            note=f"median of {REPEATS}; files read as EXPLAIN ANALYZE counts them",
        )
    ]  # fmt: skip


def measure(bench: Bench) -> list[Result]:
    return commits(bench) + point(bench)
