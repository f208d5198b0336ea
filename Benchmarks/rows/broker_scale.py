# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What ten thousand partitions cost while nothing happens, and how soon twenty gigabytes of log are served again."""

import signal
import time

from .broker_peers import KafkaEngine, forget_cached, measure as run
from .engine import BenchmarkError
from .result import Bench, Result

TOPICS = 10
PARTITIONS = 1000
IDLE_SECONDS = 20
GIGABYTES = 20
SPREAD = 8
SIZE = 1024


def produce(bench: Bench, engine: KafkaEngine, topic: str, records: int) -> dict:
    """Batches of 1 MiB at most, to all partitions in turn."""
    return run(bench, "kafka", "produce", engine.kafka, topic, records, SIZE, "batch.num.messages=1000", "sticky.partitioning.linger.ms=10")


def partitions(bench: Bench) -> list[Result]:
    with KafkaEngine(bench.program, bench.directory) as engine:
        start = time.perf_counter()
        for number in range(TOPICS):
            engine.topic(f"idle-{number}", PARTITIONS)
        making = time.perf_counter() - start
        # Every partition has been written, so that nothing of it is left out.
        for number in range(TOPICS):
            run(bench, "kafka", "produce", engine.kafka, f"idle-{number}", PARTITIONS * 20, 100, "sticky.partitioning.linger.ms=0", "linger.ms=100")
        before = engine.processor_seconds()
        time.sleep(IDLE_SECONDS)
        idle = (engine.processor_seconds() - before) / IDLE_SECONDS
        written = engine.rss_mb()
        engine.stop()
        engine.start()
        time.sleep(5)
        memory, ready = engine.rss_mb(), engine.ready_seconds
    return [
        Result(
            "broker_partitions", f"{TOPICS * PARTITIONS:,} partitions, idle", f"{max(memory, written):.0f} MB", "≤ 400 MB", max(memory, written) <= 400,
            values={"after_restart": memory, "after_writing": written, "making": making, "ready": ready, "processor": idle},
            note=f"after writing to all of them {written:.0f} MB, after a restart {memory:.0f} MB, ready after {ready:.2f} s; made in {making:.1f} s; "
            f"{idle:.1%} of one processor",
        )
    ]  # fmt: skip


def restart(bench: Bench) -> list[Result]:
    found = {}
    with KafkaEngine(bench.program, bench.directory) as engine:
        topic = engine.topic("large", SPREAD)
        records = GIGABYTES * 1_000_000_000 // SIZE
        written = produce(bench, engine, topic, records)
        held = sum(path.stat().st_size for path in engine.logs.rglob("*") if path.is_file())
        if held < GIGABYTES * 1e9:
            raise BenchmarkError(f"the log has only {held / 1e9:.1f} GB")
        for how in ("killed", "stopped"):
            if how == "killed":
                engine.process.send_signal(signal.SIGKILL)
                engine.process.wait()
                engine.process.stdout.close()
            else:
                engine.stop()
            forget_cached(engine.logs)
            start = time.perf_counter()
            engine.start()
            engine.kafka = engine.call("GET", "/engine")["kafka_address"]
            run(bench, "kafka", "consume", engine.kafka, topic, SPREAD, 1)
            run(bench, "kafka", "produce", engine.kafka, topic, 1, SIZE)
            found[how] = {"ready": engine.ready_seconds, "served": time.perf_counter() - start}
    slowest = max(one["ready"] for one in found.values())
    return [
        Result(
            "broker_restart", f"restart with {held / 1e9:.0f} GB of log, cold cache",
            f"{found['killed']['ready']:.2f} s after kill -9 · {found['stopped']['ready']:.2f} s after a stop", "≤ 3 s", slowest <= 3,
            values=found | {"written": written},
            note=f"until /readyz answers; a record read and one produced by new clients {found['killed']['served']:.2f} and "
            f"{found['stopped']['served']:.2f} s after the start; written at {written['megabytes_per_second']:.0f} MB/s",
        )
    ]  # fmt: skip


def measure(bench: Bench) -> list[Result]:
    return partitions(bench) + restart(bench)
