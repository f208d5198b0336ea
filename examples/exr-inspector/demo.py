# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Runs the whole example on a temporary data directory: `make demo`, or `python demo.py --martlet PROGRAM`.

Starts an engine, registers the view, the function, the trigger and the pipeline through the command line, moves OpenEXR
files into the view and shows what comes of them. Exits with 0 when every file is in the tables. Standard library only;
generate.py, which makes the files, needs requirements.txt.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent
VIEW, FUNCTION, PIPELINE = "exr", "exr-inspector", "exr-inspection"
READY_SECONDS = 30
STALL_SECONDS = 60
STOP_SECONDS = 45


class DemoError(Exception):
    """What went wrong, in words for the person who runs the demo."""


class Engine:
    """A `martlet serve` of our own, and the command line that talks to it."""

    def __init__(self, program: Path, directory: Path) -> None:
        self.program = program.resolve()
        self.directory = directory
        self.data = directory / "data"
        self.log = directory / "engine.log"
        self.server = ""
        self.process: subprocess.Popen | None = None
        # Settings of the person who runs this must not reach our engine or its commands.
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("MARTLET_")}
        self._address_known = threading.Event()

    def start(self) -> float:
        """Starts it on a free port and waits until it is ready; returns the seconds that took."""
        if not os.access(self.program, os.X_OK):
            raise DemoError(f"there is no program {self.program}; build it with: make build")
        start = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.program, "serve", "--data-dir", self.data, "--port", "0"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=self.environment,
                start_new_session=True,  # Ctrl-C is for this program, which then stops the engine in order.
            )  # fmt: skip
        threading.Thread(target=self._read_output, daemon=True).start()
        deadline = start + READY_SECONDS
        while not self._address_known.wait(0.01):
            self.check_alive()
            if time.monotonic() > deadline:
                raise DemoError(f"the engine did not say its address within {READY_SECONDS} s")
        while not self._is_ready():
            self.check_alive()
            if time.monotonic() > deadline:
                raise DemoError(f"the engine was not ready within {READY_SECONDS} s")
            time.sleep(0.01)
        return time.monotonic() - start

    def _read_output(self) -> None:
        with open(self.log, "ab") as log:
            for line in self.process.stdout:
                log.write(line)
                log.flush()
                for word in line.decode(errors="replace").split():
                    if word.startswith("http://") and not self.server:
                        self.server = word.removesuffix("/api/v1").rstrip("/")
                        self._address_known.set()

    def check_alive(self) -> None:
        if self.process.poll() is not None:
            lines = self.log.read_text(errors="replace").splitlines()
            raise DemoError("the engine ended with exit code %s:\n%s" % (self.process.returncode, "\n".join(lines[-10:])))

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.server + "/readyz", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess:
        """Runs one command of the command line."""
        return subprocess.run(
            [self.program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            env=self.environment | {"MARTLET_SERVER": self.server, "MARTLET_CONFIG": str(self.directory / "no-config")},
            timeout=3600,
        )  # fmt: skip

    def ask(self, *arguments: str) -> object:
        """Runs a command and returns its JSON."""
        result = self.run(*arguments, "-o", "json")
        if result.returncode != 0:
            raise DemoError(f"'martlet {shlex.join(arguments)}' failed: {result.stderr.strip()}")
        return json.loads(result.stdout)

    def items(self, *arguments: str) -> list[dict]:
        """Runs a command that lists things."""
        answer = self.ask(*arguments)
        return answer if isinstance(answer, list) else answer["data"]

    def table_rows(self) -> dict[str, int]:
        return {table["name"]: table["rows"] for table in self.items("tables", "list")}

    def files_known(self) -> set[str]:
        """Paths in `files` or in `validation`."""
        names = self.table_rows().keys()
        parts = [f"select {column} as path from {table}" for table, column in
                 (("files", "path"), ("validation", "file_path")) if table in names]  # fmt: skip
        if not parts:
            return set()
        return {row["path"] for row in self.items("sql", " union ".join(parts), "--limit", "1000000")}

    def stop(self) -> bool:
        """Stops it; returns whether it went in order."""
        if self.process is None or self.process.poll() is not None:
            return self.process is None or self.process.returncode == 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS) == 0
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False


class Demo:
    """The steps, and what they print."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine = engine
        self.directory = directory
        self.incoming = directory / "incoming"
        self.staging = directory / "staging"
        self.times: list[tuple[str, str]] = []
        self.is_terminal = sys.stdout.isatty()

    def heading(self, text: str) -> None:
        print(f"\n{text}\n{'-' * len(text)}", flush=True)

    def command(self, *arguments: str | Path, whole: bool = False) -> None:
        """Shows and runs a command; prints the first line it answers, or everything."""
        words = [str(argument) for argument in arguments]
        line = " ".join(self._short(word) for word in words)
        print(f"$ martlet {line}", flush=True)
        result = self.engine.run(*words)
        if result.returncode != 0:
            raise DemoError(f"'martlet {line}' failed with exit code {result.returncode}:\n{result.stderr.strip()}")
        output = result.stdout.rstrip("\n") or (result.stderr.rstrip("\n") if whole else "")
        for text in output.split("\n") if whole else output.split("\n")[:1]:
            print(f"  {text}" if text else "", flush=True)

    def _short(self, word: str) -> str:
        for path, name in ((self.directory, "$DEMO"), (EXAMPLE, "examples/exr-inspector")):
            if word.startswith(str(path)):
                return name + word[len(str(path)) :]
        if any(character in word for character in " \n'\"*$"):
            return f'"{word}"' if '"' not in word and "$" not in word else shlex.quote(word)
        return word

    def timed(self, what: str, seconds: float) -> None:
        text = f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
        self.times.append((what, text))

    def register(self) -> None:
        self.heading("View, function, trigger, pipeline")
        self.incoming.mkdir()
        self.command("views", "create", "-f", EXAMPLE / "view.yaml", "--path", self.incoming)
        start = time.monotonic()
        self.command("functions", "build", FUNCTION, "--target", EXAMPLE)
        self.timed("function built (two requirements, from nothing)", time.monotonic() - start)
        self.command("functions", "create", "-n", FUNCTION, "--artifact-source", FUNCTION, "--publish")
        # The extension asks the function for pixel statistics of every fourth sample.
        self.command("triggers", "create", "-f", EXAMPLE / "trigger.yaml", "--custom-extension", "exrstats=4")
        start = time.monotonic()
        self.command("pipelines", "create", "--config", EXAMPLE / "pipeline.yaml", "--deploy")
        self.timed("pipeline deployed, first worker ready", time.monotonic() - start)

    def make_files(self, count: int, seed: int, given: Path | None) -> list[str]:
        """Puts files into the staging folder; returns their keys in the view."""
        self.heading("Files")
        self.staging.mkdir()
        command = [sys.executable, EXAMPLE / "generate.py", self.staging, "--count", str(count), "--seed", str(seed)]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode != 0:
            raise DemoError(f"generate.py failed:\n{made.stderr.strip()}")
        print(made.stdout.strip().replace(str(self.directory), "$DEMO"))
        if given is not None:
            if not given.is_dir():
                raise DemoError(f"EXR_DIR {given} is not a directory")
            found = sorted(path for path in given.rglob("*.exr") if path.is_file())
            for path in found:
                target = self.staging / "given" / path.relative_to(given)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            print(f"{len(found)} files of {given}")
        return sorted(path.relative_to(self.staging).as_posix() for path in self.staging.rglob("*.exr"))

    def move(self, key: str) -> None:
        target = self.incoming / key
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.staging / key, target)

    def wait(self, keys: list[str], show: bool) -> None:
        """Waits until all of `keys` are in the tables, with a line of progress."""
        wanted = {f"{VIEW}/{key}" for key in keys}
        last, since, shown = None, time.monotonic(), 0.0
        while True:
            known = self.engine.files_known()
            missing = wanted - known
            rows = self.engine.table_rows() if show else {}
            status = self.engine.ask("pipelines", "status", PIPELINE)["deployments"][0] if show else {}
            handled = status.get("succeeded", 0)
            if show and (not missing or self.is_terminal or time.monotonic() - shown > 1):
                waiting = status.get("lag", 0)
                line = f"{handled + waiting:5d} seen  {handled:5d} handled  {sum(rows.values()):6d} rows"
                end = "\n" if not missing or not self.is_terminal else ""
                print(("\r" if self.is_terminal else "") + line, end=end, flush=True)
                shown = time.monotonic()
            if not missing:
                return
            state = (len(missing), handled)
            if state != last:
                last, since = state, time.monotonic()
            self.engine.check_alive()
            if time.monotonic() - since > STALL_SECONDS:
                names = "\n".join(f"  {name}" for name in sorted(missing)[:20])
                more = f"\n  and {len(missing) - 20} more" if len(missing) > 20 else ""
                said = [self.engine.run(*words).stdout for words in (("pipelines", "status", PIPELINE), ("dead-letters", "list"))]
                raise DemoError(
                    f"{len(missing)} of {len(wanted)} files did not reach the tables:\n{names}{more}\n\n" + "\n".join(said)
                )
            time.sleep(0.005 if not show else 0.1)

    def run_files(self, keys: list[str]) -> None:
        first, rest = keys[:1], keys[1:]
        start = time.monotonic()
        self.move(first[0])
        self.wait(first, show=False)
        self.timed("first file moved in → its rows seen by SQL", time.monotonic() - start)
        start = time.monotonic()
        for key in rest:
            self.move(key)
        print(f"{len(rest)} files moved into the view at once")
        self.wait(rest, show=True)
        seconds = time.monotonic() - start
        self.timed(f"{len(rest)} files → rows in all tables, {len(rest) / seconds:.0f} files/s", seconds)

    def show(self, events: int) -> None:
        self.heading("Tables")
        self.command("tables", "list", whole=True)
        self.heading("Queries")
        self.command(
            "sql",
            "select compression, count(*) as parts, count(distinct file_path) as files from parts group by 1 order by 2 desc, 1",
            whole=True,
        )
        self.command(
            "sql",
            "select severity, code, count(distinct file_path) as files from validation group by all order by 1, 3 desc, 2",
            whole=True,
        )
        self.heading("One event, from the file to the rows")
        traces = self.engine.items("traces", "list", PIPELINE, "--limit", "20", "--order-by", "asc")
        if not traces:
            raise DemoError("no trace was recorded")
        self.command("traces", "get", max(traces, key=lambda trace: trace["spans"])["trace_id"], whole=True)
        self.show_topic(events)
        self.heading("Dead letters")
        self.command("dead-letters", "list", whole=True)
        self.heading("How long it took")
        width = max(len(what) for what, _ in self.times)
        for what, text in self.times:
            print(f"{what:{width}}  {text:>8}")

    def show_topic(self, events: int) -> None:
        """The topic the events came through as a table of its own, and a metric of the function as a chart."""
        self.heading("The topic as a table")
        self.command("tables", "create", "uploads", "--topic", "events", "--commit-every", "1s")
        deadline = time.monotonic() + STALL_SECONDS
        while self.engine.table_rows()["uploads"] < events:
            self.engine.check_alive()
            if time.monotonic() > deadline:
                raise DemoError(f"the table has fewer rows than the {events} events of its topic")
            time.sleep(0.05)
        self.command("tables", "commit", "uploads")
        self.command("sql", "select _type, count(*) as events, min(_timestamp) as first from uploads group by all order by 1", whole=True)
        self.command("tables", "history", "uploads", whole=True)
        self.heading("How busy the function was")
        self.command("metrics", "get", "-m", "dataengine.function.invocations", "-g", "function_name", "-w", "5m", whole=True)

    def run(self, count: int, seed: int, given: Path | None) -> None:
        print(f"DEMO={self.directory}")
        print("$ martlet serve --data-dir $DEMO/data --port 0", flush=True)
        self.timed("engine ready", self.engine.start())
        print(f"  {self.engine.server}")
        self.register()
        keys = self.make_files(count, seed, given)
        self.run_files(keys)
        self.show(len(keys))
        print(f"\nAll {len(keys)} files are in the tables.")


def interrupted(number, _frame):
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description="Run exr-inspector on real files with an engine of its own.")
    parser.add_argument("--martlet", type=Path, default=EXAMPLE.parents[1] / ".build/release/martlet", help="the program")
    parser.add_argument("--exr-dir", type=Path, default=None, help="directory of OpenEXR files to add (default: EXR_DIR)")
    parser.add_argument("--count", type=int, default=60, help="how many files to make (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same files (default: 1)")
    options = parser.parse_args()
    if options.count < 2 or options.seed < 0:
        parser.error("--count takes a number from 2, --seed one from 0")
    given = options.exr_dir or (Path(os.environ["EXR_DIR"]) if os.environ.get("EXR_DIR") else None)
    signal.signal(signal.SIGTERM, interrupted)
    directory = Path(tempfile.mkdtemp(prefix="martlet-demo-")).resolve()
    engine = Engine(options.martlet, directory)
    keep = True
    try:
        Demo(engine, directory).run(options.count, options.seed, given)
        if not engine.stop():
            raise DemoError("the engine did not stop in order")
        keep = False
        return 0
    except DemoError as error:
        print(f"\ndemo: {error}\nThe engine's log is {engine.log}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        keep = False
        print("\ndemo: interrupted", file=sys.stderr)
        return 130
    finally:
        engine.stop()
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
