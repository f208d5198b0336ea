# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Measures events per second of one worker with a trivial plain handler, batches of 500 over `/v1/invoke`.

The worker is a process of its own pinned to one core; this client runs on another. `--profile` prints where the
worker's time goes, by cProfile inside the worker's threads.
"""

import argparse
import asyncio
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "src")

HANDLERS = {
    "sync": "def handler(ctx, event):\n    return None\n",
    "dict": "def handler(ctx, event):\n    return {'path': event.object_key, 'ok': True}\n",
    "async": "async def handler(ctx, event):\n    return None\n",
    "batch": (
        "from vast.dataengine.sdk import event_batching_handler\n"
        "@event_batching_handler\ndef handler(ctx, events):\n    return None\n"
    ),
}


def make_batch(count):
    """Returns the body of one request: element events as the engine sends them."""
    events = []
    for index in range(count):
        key = "frames/shot_%04d.exr" % index
        s3 = {"bucket": {"name": "renders"}, "object": {"key": key, "size": 415232, "eTag": "0" * 32}}
        events.append(
            {
                "specversion": "1.0",
                "id": str(1004356627333135 + index),
                "type": "vastdata.com:Element.ElementCreated",
                "source": "vastdata.com:frames.b45a6820-410c-457a-ac1b-035a102b5d05",
                "subject": "broker.main",
                "time": "2026-04-08T15:41:29.591955+00:00",
                "datacontenttype": "application/json",
                "elementpath": "renders/" + key,
                "elementhandle": "8025198034623744117",
                "elementsourcetype": "vast:s3",
                "traceparent": "00-%032x-%016x-01" % (index + 1, index + 1),
                "martletattempt": 1,
                "martletbatch": 1,
                "data": {"Records": [{"eventVersion": "2.2", "eventName": "ObjectCreated:Put", "s3": s3}]},
            }
        )
    return json.dumps(events, separators=(",", ":")).encode()


async def drive(path, body, count, seconds, connections):
    """Keeps one request open per connection; returns (events, seconds)."""
    request = (
        "POST /v1/invoke HTTP/1.1\r\nHost: worker\r\nContent-Type: application/cloudevents-batch+json\r\n"
        "Content-Length: %d\r\n\r\n" % len(body)
    ).encode() + body
    deadline = time.perf_counter() + seconds
    finished = 0

    async def one():
        nonlocal finished
        reader, writer = await asyncio.open_unix_connection(path, limit=1 << 22)
        while time.perf_counter() < deadline:
            writer.write(request)
            answer = bytearray()
            while not answer.endswith(b"0\r\n\r\n"):
                answer += await reader.read(1 << 20)
            got = answer.count(b',"ok",')
            if got != count:
                raise SystemExit("a request of %d events got %d results: %r" % (count, got, bytes(answer[:500])))
            finished += got
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    return finished, time.perf_counter() - started


async def latency(path, body, rounds):
    """Returns the sorted round-trip times of single events, in microseconds."""
    request = (
        "POST /v1/invoke HTTP/1.1\r\nHost: worker\r\nContent-Type: application/cloudevents-batch+json\r\n"
        "Content-Length: %d\r\n\r\n" % len(body)
    ).encode() + body
    reader, writer = await asyncio.open_unix_connection(path)
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        writer.write(request)
        answer = b""
        while not answer.endswith(b"0\r\n\r\n"):
            answer += await reader.read(1 << 16)
        times.append((time.perf_counter() - started) * 1e6)
    writer.close()
    return sorted(times)


def main():
    """Runs the measurement and prints it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--handler", choices=sorted(HANDLERS), default="sync")
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="martlet-bench-")
    with open(os.path.join(folder, "main.py"), "w") as stream:
        stream.write(HANDLERS[options.handler])
    path = os.path.join(folder, "w.sock")
    environ = dict(os.environ, PYTHONPATH=SOURCE, MARTLET_WORKER_SOCKET=path, MARTLET_APP_PATH=folder)
    environ["VAST_LOG_LEVEL"] = "WARNING"
    command = [sys.executable, "-m", "martlet.worker"]
    if options.profile:
        command = [sys.executable, "-c", PROFILED]
    worker = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
    cores = sorted(os.sched_getaffinity(0))
    try:
        os.sched_setaffinity(worker.pid, {cores[-1]})
        if len(cores) > 1:
            os.sched_setaffinity(0, {cores[0]})
        while not os.path.exists(path):
            if worker.poll() is not None:
                raise SystemExit("the worker ended with status %d" % worker.returncode)
            time.sleep(0.01)
        for pid in os.listdir("/proc/%d/task" % worker.pid):
            os.sched_setaffinity(int(pid), {cores[-1]})
        body = make_batch(options.batch)
        asyncio.run(drive(path, body, options.batch, 1.0, options.connections))
        events, seconds = asyncio.run(drive(path, body, options.batch, options.seconds, options.connections))
        times = asyncio.run(latency(path, make_batch(1), 2000))
        print(
            "%s handler, batches of %d (%d bytes an event), %d connections, Python %s: "
            "%d events in %.2f s = %d events/s"
            % (
                options.handler,
                options.batch,
                len(body) // options.batch,
                options.connections,
                sys.version.split()[0],
                events,
                seconds,
                events / seconds,
            )
        )
        print(
            "one event at a time: p50 %.0f µs, p99 %.0f µs, worst %.0f µs"
            % (times[len(times) // 2], times[len(times) * 99 // 100], times[-1])
        )
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait()
        shutil.rmtree(folder)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print("worker: %.2f s user, %.2f s system, %d MiB at most" % (used.ru_utime, used.ru_stime, used.ru_maxrss // 1024))


PROFILED = """
import cProfile, pstats, sys, threading
from martlet import runner, worker
profiles = []
def profiled(function):
    def run(*args):
        profile = cProfile.Profile(); profiles.append(profile)
        profile.enable()
        try:
            return function(*args)
        finally:
            profile.disable()
    return run
runner.Runner._work = profiled(runner.Runner._work)
whole = cProfile.Profile()
worker_, status = worker.Worker(worker.Settings()), 1
whole.enable(); worker_.run(); whole.disable()
for profile in profiles: profile.disable()
stats = pstats.Stats(whole, *[p for p in profiles if p.getstats()], stream=sys.__stderr__)
stats.sort_stats("tottime").print_stats(25)
sys.__stderr__.flush()
import os; os._exit(0)
"""

if __name__ == "__main__":
    main()
