# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""`make bench`: measures what docs/performance.md promises and prints a table.

Every row starts engines of its own on temporary data directories and checks that what it counted is right. Figures are of this
machine, now: they are worth something only while it does nothing else. Needs requirements.txt.
"""

import argparse
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from rows.engine import BenchmarkError
from rows.result import Bench, Result, median

ROOT = Path(__file__).resolve().parent.parent
# In this order: what is disturbed most by other work comes first.
ROWS = ("latency", "throughput", "inspection", "build", "footprint", "log")


def commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--porcelain", "--untracked-files=no") else "")


def file_system(path: Path) -> str:
    """Type of the file system that holds `path`."""
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind = line.split()[:3]
        if (path == Path(place) or path.is_relative_to(place)) and len(place) >= len(best[0]):
            best = (place, kind)
    return best[1]


def flush_milliseconds(directory: Path) -> float:
    """Median time of fdatasync after 4 KiB more in a file: what one durable write costs at least."""
    path = directory / "flush"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    times = []
    for _ in range(300):
        os.write(handle, b"x" * 4096)
        start = time.perf_counter()
        os.fdatasync(handle)
        times.append((time.perf_counter() - start) * 1000)
    os.close(handle)
    path.unlink()
    return round(median(times), 3)


def machine(directory: Path) -> dict:
    models = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    return {
        "processor": models[0] if models else platform.machine(),
        "processors": os.cpu_count(),
        "memory_gb": round(memory / 1e9),
        "kernel": platform.release(),
        "file_system": file_system(directory),
        "flush_milliseconds": flush_milliseconds(directory),
        "python": platform.python_version(),
        "commit": commit(),
        "load_before": os.getloadavg()[0],
    }


def table(results: list[Result]) -> str:
    lines = [["what", "measured", "reach", "ratio", "verdict"]]
    lines += [[result.what, result.measured, result.reach, result.ratio, result.verdict] for result in results]
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    return "\n".join([text[0], "  ".join("-" * width for width in widths), *text[1:]])


def options(names: tuple[str, ...]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the engine and print a table.")
    parser.add_argument("--martlet", type=Path, default=ROOT / ".build/release/martlet", help="the program")
    parser.add_argument("--only", action="append", choices=sorted(names), help="measure only these; may be given more than once")
    parser.add_argument("--skip", action="append", default=[], choices=sorted(names), help="leave these out; may be given more than once")
    parser.add_argument("--json", type=Path, help="also write everything that was measured to this file")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="where to put data; its disk is measured")
    parser.add_argument("--keep", action="store_true", help="keep what was written")
    return parser.parse_args()


def main(names: tuple[str, ...] = ROWS, large: tuple[str, ...] = ()) -> int:
    """Measures `names`, and what is `large` where it is asked for."""
    chosen = options(names + large)
    program = chosen.martlet.resolve()
    if not os.access(program, os.X_OK):
        print(f"bench: there is no program {program}; build it with: make build", file=sys.stderr)
        return 2
    directory = Path(tempfile.mkdtemp(prefix="martlet-bench-", dir=chosen.directory)).resolve()
    bench = Bench(program, directory, ROOT)
    facts = machine(directory)
    print(
        f"{facts['processors']} × {facts['processor']}, {facts['memory_gb']} GB, Linux {facts['kernel']}, {facts['file_system']} "
        f"(fdatasync {facts['flush_milliseconds']:.2f} ms), Python {facts['python']}\ncommit {facts['commit']}, load average {facts['load_before']:.2f}"
        + (" — the machine is not idle, figures will be worse than they are" if facts["load_before"] > 0.7 else "")
    )
    if facts["file_system"] in ("tmpfs", "overlay"):
        print(f"{directory} is on {facts['file_system']}: nothing there is really on disk; choose another place with --directory")
    results: list[Result] = []
    failures = []
    loads = {}
    start = time.monotonic()
    try:
        for name in [name for name in chosen.only or names if name not in chosen.skip]:
            loads[name] = os.getloadavg()[0]
            print(f"… {name}, load average {loads[name]:.2f}", file=sys.stderr, flush=True)
            try:
                results += importlib.import_module(f"rows.{name}").measure(bench)
            except BenchmarkError as error:
                failures.append({"row": name, "error": str(error)})
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    finally:
        if not chosen.keep:
            shutil.rmtree(directory, ignore_errors=True)
    facts |= {"loads": loads, "load_after": os.getloadavg()[0], "seconds": round(time.monotonic() - start, 1)}
    print("\n" + table(results) + "\n")
    for result in results:
        if result.note:
            print(f"{result.what.strip()}: {result.note}")
    print(f"\nmeasured in {facts['seconds']:.0f} s; load average {facts['load_before']:.2f} before, {facts['load_after']:.2f} after")
    for failure in failures:
        print(f"\nbench: {failure['row']} failed: {failure['error']}", file=sys.stderr)
    if chosen.json:
        rows = [asdict(result) | {"verdict": result.verdict} for result in results]
        chosen.json.write_text(json.dumps({"machine": facts, "rows": rows, "failures": failures}, indent=1, ensure_ascii=False) + "\n")
    # A figure that is missed is a figure; only what could not be measured, or came out wrong, is an error.
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
