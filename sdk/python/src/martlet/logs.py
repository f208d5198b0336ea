# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Log records of user code and of the runtime: loggers, stdout and stderr."""

import io
import logging
import os
import sys
import threading
import time
from collections import deque

from . import tracing
from .state import current

CONSOLE_BYTES_MAX = 4 * 1024 * 1024
LINE_MAX = 64 * 1024
RUNTIME_LOGGER = "martlet.runtime"

LEVELS = {
    "NOTSET": 0,
    "TRACE": 5,
    "DEBUG": 10,
    "INFO": 20,
    "WARN": 30,
    "WARNING": 30,
    "ERROR": 40,
    "FATAL": 50,
    "CRITICAL": 50,
}


class ContextLogger(logging.Logger):
    """`ctx.logger`: a stdlib logger that can also be called like a function."""

    def __call__(self, message, *args, **kwargs):
        if self.isEnabledFor(logging.INFO):
            self._log(logging.INFO, message, args, **kwargs)


def context_logger(name):
    """Returns the logger of a function."""
    manager = logging.Logger.manager
    found = manager.loggerDict.get(name)
    if isinstance(found, ContextLogger):
        return found
    before = manager.loggerClass
    manager.loggerClass = ContextLogger
    try:
        if isinstance(found, logging.Logger):
            del manager.loggerDict[name]
        return manager.getLogger(name)
    finally:
        manager.loggerClass = before


class Console:
    """Writes to the real stdout and stderr from its own thread; a full pipe blocks nobody, old text is dropped."""

    def __init__(self):
        self._queue = deque()
        self._bytes = 0
        self._dropped = 0
        self._condition = threading.Condition(threading.Lock())
        self._thread = None
        self._writing = False

    def write(self, text, descriptor=1):
        """Queues text for a descriptor; the order over both is kept."""
        if len(text) > CONSOLE_BYTES_MAX:
            text = text[:CONSOLE_BYTES_MAX] + "… (%d characters left out)\n" % (len(text) - CONSOLE_BYTES_MAX)
        data = text.encode("utf-8", "replace")
        with self._condition:
            self._queue.append((descriptor, data))
            self._bytes += len(data)
            while self._bytes > CONSOLE_BYTES_MAX and len(self._queue) > 1:
                self._bytes -= len(self._queue.popleft()[1])
                self._dropped += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="martlet-console", daemon=True)
                self._thread.start()
            elif len(self._queue) == 1:
                self._condition.notify()

    def drain(self, seconds=1.0):
        """Waits until what is queued is written, for at most `seconds`."""
        deadline = time.monotonic() + seconds
        while (self._queue or self._writing) and time.monotonic() < deadline:
            time.sleep(0.002)

    def _run(self):
        while True:
            with self._condition:
                self._writing = False
                while not self._queue:
                    self._condition.wait()
                parts, total = [], 0
                if self._dropped:
                    parts.append(b"[%d writes left out: the reader is too slow]\n" % self._dropped)
                    self._dropped = 0
                descriptor = self._queue[0][0]
                while self._queue and total < 65536 and self._queue[0][0] == descriptor:
                    part = self._queue.popleft()[1]
                    parts.append(part)
                    total += len(part)
                self._bytes -= total
                self._writing = True
            data = memoryview(b"".join(parts))
            try:
                while data:
                    data = data[os.write(descriptor, data[:65536]) :]
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                pass


class LineStream(io.TextIOBase):
    """Stands for sys.stdout or sys.stderr: lines become log records of the invocation that printed them."""

    def __init__(self, name, level, descriptor, console, telemetry):
        super().__init__()
        self._name = name
        self._level = level
        self._descriptor = descriptor
        self._console = console
        self._telemetry = telemetry
        self._loose = threading.local()
        self._buffer = None

    encoding = "utf-8"
    errors = "replace"
    newlines = None
    line_buffering = True
    mode = "w"

    @property
    def name(self):
        """The stream's name, as the interpreter's own has it."""
        return "<%s>" % self._name

    @property
    def buffer(self):
        """A binary stream over the same lines."""
        if self._buffer is None:
            self._buffer = _ByteStream(self)
        return self._buffer

    def fileno(self):
        """Returns the real descriptor."""
        return self._descriptor

    def isatty(self):
        """Tells whether the real descriptor is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self):
        """Always true."""
        return True

    def reconfigure(self, **_options):
        """Accepts what the interpreter's own stream accepts; nothing changes."""

    def write(self, text):
        """Takes text; whole lines are passed on at once."""
        if not isinstance(text, str):
            raise TypeError("write() argument must be str, not %s" % type(text).__name__)
        if not text:
            return 0
        invocation = current.get()
        holder = self._loose.__dict__ if invocation is None else invocation.lines
        if holder is None:
            holder = invocation.lines = {}
        held = holder.get(self._name)
        whole = held + text if held else text
        if "\n" not in text and len(whole) <= LINE_MAX:
            holder[self._name] = whole
            return len(text)
        lines = whole.split("\n")
        rest = lines.pop()
        length = len(whole) - len(rest)
        if len(rest) > LINE_MAX:
            cuts = range(0, len(rest), LINE_MAX)
            lines.extend(rest[at : at + LINE_MAX] for at in cuts[:-1])
            rest = rest[cuts[-1] :]
            length = len(whole) - len(rest)
        holder[self._name] = rest
        self._console.write(whole[:length], self._descriptor)
        ids = tracing.active_ids()
        event_id = None if invocation is None else invocation.event_id
        for line in lines:
            if line:
                self._telemetry.add_log(self._level, "user", self._name, line.rstrip("\r"), ids, event_id)
        return len(text)

    def finish(self, invocation):
        """Passes on the line an invocation did not end."""
        rest = invocation.lines.pop(self._name, None)
        if rest:
            self._console.write(rest + "\n", self._descriptor)
            self._telemetry.add_log(self._level, "user", self._name, rest, invocation.ids, invocation.event_id)

    def finish_loose(self):
        """Passes on the line the current thread did not end outside any invocation."""
        rest = self._loose.__dict__.pop(self._name, None)
        if rest:
            self._console.write(rest + "\n", self._descriptor)
            self._telemetry.add_log(self._level, "user", self._name, rest)

    def flush(self):
        """Passes on nothing: lines go at once, and an unfinished one waits for its end."""


class _ByteStream(io.RawIOBase):
    def __init__(self, text):
        super().__init__()
        self._text = text

    def writable(self):
        return True

    def fileno(self):
        return self._text.fileno()

    def write(self, data):
        data = bytes(data)
        self._text.write(data.decode("utf-8", "replace"))
        return len(data)


class RecordHandler(logging.Handler):
    """The root logger's handler: every record goes to telemetry, and to the console where there is no engine."""

    def __init__(self, telemetry, console=None, label="function"):
        super().__init__()
        self._telemetry = telemetry
        self._console = console
        self._label = label

    def createLock(self):
        """Needs no lock: the queues have theirs."""
        self.lock = None

    def handle(self, record):
        """Passes the record on unless a filter refuses it."""
        kept = self.filter(record)
        if kept:
            self.emit(kept if isinstance(kept, logging.LogRecord) else record)
        return kept

    def emit(self, record):
        """Queues one record; a record that cannot be shown is reported on stderr and harms nothing."""
        try:
            self._take(record)
        except Exception:
            self.handleError(record)

    def _take(self, record):
        try:
            body = record.getMessage()
        except Exception as error:
            body = "%s (its arguments do not fit: %s)" % (record.msg, error)
        scope = "vast-runtime" if record.name.startswith("martlet.") else "user"
        attributes = {"code.filepath": record.pathname, "code.lineno": record.lineno}
        trace = getattr(record, "martlet_traceback", None)
        if record.exc_info and record.exc_info[1] is not None:
            from . import loader

            error = record.exc_info[1]
            attributes["exception.type"] = type(error).__qualname__
            attributes["exception.message"] = loader.error_text(error)
            trace = attributes["exception.stacktrace"] = trace or loader.user_traceback(error)
        elif trace:
            attributes["exception.stacktrace"] = trace
        extra = getattr(record, "attributes", None)
        if isinstance(extra, dict):
            attributes.update(extra)
        invocation = current.get()
        event_id = getattr(record, "event_id", None) or (None if invocation is None else invocation.event_id)
        ids = getattr(record, "ids", None) or tracing.active_ids()
        at = int(record.created * 1_000_000) * 1000
        self._telemetry.add_log(record.levelno, scope, record.name, body, ids, event_id, attributes, at)
        if self._console is not None:
            self._console.write(self._line(record, scope, body, trace))

    def _line(self, record, scope, body, trace):
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        head = "%s.%02d [%s] [%s] [%s] " % (stamp, record.msecs // 10, self._label, record.levelname, scope)
        text = head + body + "\n"
        return text + trace.rstrip("\n") + "\n" if trace else text


class Capture:
    """Puts the streams and the root handler in place."""

    def __init__(self, telemetry, level="INFO", echo=False, label="function"):
        self.level = LEVELS.get(str(level).upper(), 20)
        self.console = Console()
        self.stdout = LineStream("stdout", 20, 1, self.console, telemetry)
        self.stderr = LineStream("stderr", 30, 2, self.console, telemetry)
        self.handler = RecordHandler(telemetry, self.console if echo else None, label)

    def install(self):
        """Replaces sys.stdout and sys.stderr and hooks the root logger."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass
        sys.stdout, sys.stderr = self.stdout, self.stderr
        root = logging.getLogger()
        root.addHandler(self.handler)
        root.setLevel(self.level)
        logging.captureWarnings(True)

    def leave_to_child(self):
        """In a forked child: puts the interpreter's own streams back, since no thread of ours runs there."""
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        root = logging.getLogger()
        if self.handler in root.handlers:
            root.removeHandler(self.handler)
            root.addHandler(logging.StreamHandler(sys.__stderr__))

    def finish(self, invocation):
        """Passes on unfinished lines of an invocation that printed."""
        self.stdout.finish(invocation)
        self.stderr.finish(invocation)

    def drain(self, seconds=1.0):
        """Passes on what this thread printed last outside any call, and waits for the consoles."""
        for stream in (self.stdout, self.stderr):
            stream.finish_loose()
        self.console.drain(seconds)
