# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What a benchmark is given and what it returns."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Bench:
    """Where and with what to measure."""

    program: Path
    directory: Path
    """A directory on the disk that is measured."""
    root: Path
    """The repository."""


@dataclass
class Result:
    """One line of the table."""

    name: str
    what: str
    measured: str
    reach: str = ""
    reached: bool | None = None
    ratio: str = ""
    note: str = ""
    values: dict = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        return {True: "reached", False: "MISSED", None: "shown"}[self.reached]


def percentiles(values: list[float]) -> dict[str, float]:
    """The percentiles of the table, by the nearest rank."""
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1))]

    return {"p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": ordered[-1], "count": len(ordered)}


def median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
