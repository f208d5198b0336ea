# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""From the acknowledgement of a record until SQL counts it."""

import json
import random
import shutil
import threading
import time

from . import tables_program
from .engine import BenchmarkError, Engine
from .result import Bench, Result, percentiles

PROBES = 300
TRICKLE = 1000
HTTP_PROBES = 200
BATCH = 20
SOURCE = "/bench/visible"


def within(name: str, what: str, found: list[float], **rest) -> Result:
    seen = percentiles(found)
    return Result(
        name, what, "p50 {p50:.1f} · p95 {p95:.1f} · p99 {p99:.1f} ms".format(**seen), "p50 ≤ 50 ms, p99 ≤ 500 ms",
        seen["p50"] <= 50 and seen["p99"] <= 500, **rest,
    )  # fmt: skip


def in_process(bench: Bench) -> list[Result]:
    results = []
    for background in (0, TRICKLE):
        place = tables_program.place(bench, f"tables-visible-{background}")
        found = tables_program.run(bench, "visible", place, PROBES, background)
        shutil.rmtree(place)
        query = percentiles(found["query_milliseconds"])
        results.append(
            within(
                f"tables_visible_{background}",
                "record acknowledged → counted by SQL" + (f", beside {background:,} records/s" if background else ""),
                found["milliseconds"], values=found,
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


def event(number: int, data: dict) -> dict:
    return {
        "specversion": "1.0", "id": f"{data.get('probe', 'b')}-{number}", "source": SOURCE, "type": "example.com:Bench",
        "datacontenttype": "application/json", "data": data,
    }  # fmt: skip


class Trickle:
    """Publishes `TRICKLE` records a second over a connection of its own while it is entered."""

    def __init__(self, engine: Engine) -> None:
        self.client = engine.client()
        self.sent = 0
        self.error: Exception | None = None
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Trickle":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.thread.join()
        self.client.close()

    def _run(self) -> None:
        start = time.perf_counter()
        try:
            while not self.stopped.is_set():
                events = [event(self.sent + index, {"user": f"user-{index}", "price": index + 0.5}) for index in range(BATCH)]
                headers = {"Content-Type": "application/cloudevents-batch+json"}
                self.client.request("POST", "/api/v1/topics/seen/events", json.dumps(events), headers)
                answer = self.client.getresponse()
                if answer.status != 202:
                    raise BenchmarkError(f"publishing was answered with {answer.status}: {answer.read()[:500]!r}")
                answer.read()
                self.sent += BATCH
                self.stopped.wait(max(0, start + self.sent / TRICKLE - time.perf_counter()))
        except Exception as error:
            self.error = error


def probe(engine: Engine) -> tuple[list[float], list[float]]:
    """Milliseconds from the answer to a record until SQL counts it, and of the last query of each."""
    seen, queries = [], []
    for number in range(HTTP_PROBES):
        body = json.dumps(event(number, {"probe": number, "user": f"user-{number % 7}", "price": 12.5})).encode()
        status, answer = engine.request("POST", "/api/v1/topics/seen/events", body, "application/cloudevents+json")
        acknowledged = time.perf_counter()
        if status != 202:
            raise BenchmarkError(f"publishing was answered with {status}: {answer[:500]!r}")
        while True:
            asked = time.perf_counter()
            rows = engine.call("POST", "/sql", {"sql": f"select count(*) from seen where probe = {number}"})["rows"]
            now = time.perf_counter()
            if rows[0][0] > 0:
                break
            if now - acknowledged > 30:
                raise BenchmarkError(f"record {number} cannot be seen after 30 s")
        seen.append((now - acknowledged) * 1000)
        queries.append((now - asked) * 1000)
        time.sleep(random.uniform(0.005, 0.04))
    return seen, queries


def over_http(bench: Bench, background: bool) -> Result:
    with Engine(bench.program, bench.directory) as engine:
        engine.call("POST", "/topics", {"name": "seen", "partitions": 1})
        engine.call("POST", "/tables", {"name": "seen", "topic": "seen", "columns": {"probe": "BIGINT"}})
        sent = 0
        if background:
            with Trickle(engine) as trickle:
                time.sleep(1)
                seen, queries = probe(engine)
            if trickle.error is not None:
                raise BenchmarkError(f"the records beside it: {trickle.error}")
            sent = trickle.sent
        else:
            seen, queries = probe(engine)
        deadline = time.monotonic() + 30
        while (rows := engine.call("POST", "/sql", {"sql": "select count(*) from seen"})["rows"][0][0]) != sent + HTTP_PROBES:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"of {sent + HTTP_PROBES} records {rows} are in the table")
    return within(
        f"tables_visible_http_{TRICKLE if background else 0}",
        "  the same over HTTP" + (f", beside {TRICKLE:,} records/s" if background else ""), seen,
        values={"milliseconds": seen, "query_milliseconds": queries},
        note=f"{HTTP_PROBES} records, one request each, then POST /api/v1/sql until it is counted, on one kept connection from Python; the query that "
        f"counts it takes {percentiles(queries)['p50']:.1f} ms (p50)",
    )  # fmt: skip


def measure(bench: Bench) -> list[Result]:
    return in_process(bench) + [over_http(bench, False), over_http(bench, True)]
