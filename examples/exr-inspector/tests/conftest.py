# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Files to inspect, and a context that records what the function writes."""

import logging
import os
import random
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

FUNCTION = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(FUNCTION))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import generate  # noqa: E402

SHARED = Path(os.environ.get("EXR_DIR") or FUNCTION.parents[2] / "shared" / "data" / "exr")
SEED = int(os.environ.get("EXR_TEST_SEED") or random.randrange(2**31))


def pytest_report_header(config):
    return f"exr-inspector: shared files from {SHARED}, seed {SEED} (EXR_DIR and EXR_TEST_SEED set them)"


def shared_files(pattern: str = "*.exr", leave_out: str = "\0") -> list:
    """Parameters for tests over the shared files; a skip with its reason where there are none."""
    files = [path for path in sorted(SHARED.glob(pattern)) if not path.name.startswith(leave_out)]
    if not files:
        reason = f"no {pattern} in {SHARED}; set EXR_DIR"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="none")]
    return [pytest.param(path, id=path.stem) for path in files]


@pytest.fixture(scope="session")
def generated(tmp_path_factory) -> dict[str, Path]:
    """One generated file of each kind, by kind."""
    directory = tmp_path_factory.mktemp("generated")
    paths = generate.generate(directory, len(generate.KINDS), SEED)
    return dict(zip(generate.KINDS, paths))


class RecordingTable:
    """Applies writes to a dict keyed as the function asks; outside a transaction it refuses them."""

    def __init__(self, context: "RecordingContext", name: str) -> None:
        self.context = context
        self.name = name

    def upsert(self, rows, key):
        assert self.context.in_transaction and rows
        kept = self.context.kept.setdefault(self.name, {})
        names = [tuple(row[column] for column in key) for row in rows]
        assert len(set(names)) == len(names), f"rows of {self.name} collide on {key}"
        assert None not in {part for name in names for part in name}
        kept.update(zip(names, (dict(row) for row in rows)))
        self.context.log.append(("upsert", self.name, len(rows)))

    def delete(self, rows):
        assert self.context.in_transaction and rows
        kept = self.context.kept.setdefault(self.name, {})
        for pattern in rows:
            for name in [name for name, row in kept.items() if all(row[at] == pattern[at] for at in pattern)]:
                del kept[name]
        self.context.log.append(("delete", self.name, len(rows)))


class RecordingContext:
    """The part of `ctx` the function uses; a failing transaction leaves the rows as they were."""

    def __init__(self) -> None:
        self.logger = logging.getLogger("exr-inspector")
        self.kept: dict[str, dict] = {}
        self.log: list[tuple] = []
        self.commits = 0
        self.in_transaction = False
        self.tracer = self

    class Span:
        def set_attribute(self, name, value):
            assert isinstance(name, str) and value is not None

    @contextmanager
    def start_as_current_span(self, name):
        yield self.Span()

    @property
    def tables(self):
        context = self

        class Tables:
            def __getitem__(self, name):
                return RecordingTable(context, name)

        return Tables()

    @contextmanager
    def transaction(self):
        assert not self.in_transaction
        before = {name: dict(rows) for name, rows in self.kept.items()}
        self.in_transaction = True
        try:
            yield
            self.commits += 1
        except BaseException:
            self.kept = before
            raise
        finally:
            self.in_transaction = False

    def rows(self, table: str) -> list[dict]:
        return list(self.kept.get(table, {}).values())

    def everything(self) -> dict[str, list[dict]]:
        return {table: rows for table in sorted(self.kept) if (rows := self.rows(table))}


@pytest.fixture
def ctx(monkeypatch) -> RecordingContext:
    for name in ("EXR_STATS", "EXR_SAMPLE_STRIDE"):
        monkeypatch.delenv(name, raising=False)
    return RecordingContext()
