# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""`python -m martlet.worker`: the process that runs one function for the engine."""

import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time

from . import context, loader, logs, otel, tables, telemetry, tracing
from .errors import GatewayError, LoadError
from .gateway import Gateway
from .runner import Runner
from .service import Service
from .state import Invocation, current

EXIT_FAILED = 3
EXIT_ENGINE_GONE = 4

#: How long a busy handler may keep the interpreter from the server; Python's own default is 5 ms.
SWITCH_SECONDS = 0.001

log = logging.getLogger(logs.RUNTIME_LOGGER)


class Settings:
    """What the engine says in the environment."""

    def __init__(self, environ=os.environ):
        self.worker_id = environ.get("MARTLET_WORKER_ID", "local")
        self.socket = environ.get("MARTLET_WORKER_SOCKET")
        self.port = _number(environ, "MARTLET_WORKER_PORT", None)
        self.gateway = environ.get("MARTLET_GATEWAY_SOCKET")
        self.token = environ.get("MARTLET_WORKER_TOKEN", "")
        self.app_path = environ.get("MARTLET_APP_PATH", ".")
        self.handler = environ.get("MARTLET_HANDLER", "main.py")
        self.concurrency = _number(environ, "MARTLET_CONCURRENCY", 20)
        self.timeout = _number(environ, "MARTLET_TIMEOUT_SECONDS", 0.0, float)
        self.grace = _number(environ, "MARTLET_GRACE_SECONDS", 10.0, float)
        self.secrets_dir = environ.get("MARTLET_SECRETS_DIR") or ("/secrets" if os.path.isdir("/secrets") else None)
        self.log_level = environ.get("VAST_LOG_LEVEL") or "INFO"
        self.sink = environ.get("K_SINK")
        try:
            self.function = json.loads(environ.get("MARTLET_FUNCTION_CONTEXT") or "{}")
        except ValueError as error:
            raise LoadError("runtime", "ValueError", "MARTLET_FUNCTION_CONTEXT is not JSON: %s" % error) from None


def _number(environ, name, default, kind=int):
    text = environ.get(name)
    if not text:
        return default
    try:
        value = kind(text)
        if 0 <= value < 1 << 31:
            return value
    except ValueError:
        pass
    wanted = "a whole number" if kind is int else "a number"
    raise LoadError("runtime", "ValueError", "%s is %r; it must be %s of at least 0" % (name, text, wanted))


class Worker:
    """One function in one process, from import to exit."""

    def __init__(self, settings, echo=None, event_log_level=logging.DEBUG, table_sink=None):
        self.settings = settings
        self.gateway = Gateway(settings.gateway, settings.token, settings.worker_id) if settings.gateway else None
        name = settings.function.get("function_name") or os.environ.get("K_NAME") or "function"
        resource = {
            "service.name": name,
            "function_name": name,
            "function_revision": settings.function.get("function_revision"),
            "pipeline_name": settings.function.get("pipeline_name"),
            "deployment_name": settings.function.get("deployment_name"),
            "worker_id": settings.worker_id,
            "function_host": os.uname().nodename,
            "process.pid": os.getpid(),
        }
        self.telemetry = telemetry.Telemetry(self.gateway, resource)
        echo = self.gateway is None if echo is None else echo
        self.capture = logs.Capture(self.telemetry, settings.log_level, echo, name)
        self._event_log_level = event_log_level
        sink = table_sink or (tables.GatewaySink(self.gateway) if self.gateway else tables.MemorySink())
        logger = logs.context_logger(name)
        self.ctx = context.Context(settings.function, self.gateway, self.telemetry, logger, sink, settings.secrets_dir)
        self.runner = None
        self._stop = None
        self._listening = False
        self._stop_seconds = settings.grace

    def run(self, on_ready=None):
        """Imports, initialises, serves until told to stop; returns the exit status."""
        started = time.perf_counter()
        sys.setswitchinterval(SWITCH_SECONDS)
        _watch_parent(self.gateway, self.engine_gone)
        self.capture.install()
        os.register_at_fork(after_in_child=self._leave_to_child)
        otel.install(self.telemetry)
        try:
            function = self._prepare()
            init_micros = int((time.perf_counter() - started) * 1_000_000)
            return asyncio.run(self._serve(function, init_micros, on_ready))
        except LoadError as error:
            self._report(error)
            return EXIT_FAILED
        finally:
            self.close()

    def _prepare(self):
        settings = self.settings
        folder = os.path.abspath(settings.app_path)
        if os.path.isdir(folder):
            os.chdir(folder)
        log.info("App Path: %s", folder)
        log.info("Handler: %s", settings.handler)
        context.set_global_ctx(self.ctx)
        function = loader.load(folder, settings.handler)
        sink = None
        if settings.sink:
            from .sink import Sink

            sink = Sink(settings.sink, os.environ.get("K_CE_OVERRIDES"), self.ctx)
        self.runner = Runner(
            self.ctx, function, settings.concurrency, settings.timeout, self.capture, sink, self._event_log_level
        )
        self._init(function)
        return function

    def _init(self, function):
        if function.init is None:
            return
        invocation = Invocation(None, 0, {"id": "init"})
        invocation.ids = (tracing.new_trace_id(), tracing.new_span_id())
        invocation.start = time.time_ns() // 1000
        span = tracing.SpanData("init", *invocation.ids, sink=self.telemetry)
        span.set_attribute("function_name", self.ctx.function_name)
        token = current.set(invocation)
        log.info("Call Init Handler: %s", getattr(function.init, "__name__", "init"))
        started = time.perf_counter()
        try:
            loader.call_init(function, self.ctx, self.runner.run_async)
            log.info("Init Handler Completed, duration: %.6f", time.perf_counter() - started)
        except LoadError as error:
            span.set_status("ERROR", "%s: %s" % (error.kind, error))
            raise
        finally:
            if invocation.lines:
                self.capture.finish(invocation)
            if invocation.span is not None:
                own = invocation.span
                span.set_attributes(own.attributes)
                span.events.extend(own.events)
                if own.status:
                    span.set_status(own.status, own.status_message)
            span.end()
            current.reset(token)

    async def _serve(self, function, init_micros, on_ready):
        loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self.runner.start(loop)
        service = Service(self.runner)
        settings = self.settings
        try:
            port = await service.listen(settings.socket, settings.port)
            self._listening = bool(settings.socket)
        except OSError as error:
            where = settings.socket or "port %s (choose another with --port)" % settings.port
            raise LoadError("runtime", "OSError", "the worker cannot listen on %s: %s" % (where, error)) from None
        log.info("Runtime is listening on %s", "port %d" % port if port else settings.socket)
        if self.gateway is not None:
            await loop.run_in_executor(None, self._ready, function, init_micros)
        if function.kind == "sync":
            log.info("Sync handler detected, concurrency limited to %d", settings.concurrency)
        log.info("Handler is now ready to accept requests")
        if on_ready is not None:
            on_ready(port)
        await self._stop.wait()
        service.stop_listening()
        finished = await self.runner.drain(self._stop_seconds)
        await service.flush()
        if not finished:
            log.warning("handler calls still ran after %g s; they are cut off", self._stop_seconds)
            return 1
        return 0

    def _ready(self, function, init_micros):
        body = {
            "pid": os.getpid(),
            "handler": function.kind,
            "init_micros": init_micros,
            "runtime": "python-%d.%d.%d" % sys.version_info[:3],
        }
        try:
            self.gateway.post("/v1/ready", json.dumps(body).encode(), 30.0)
        except GatewayError as error:
            raise LoadError("runtime", "GatewayError", str(error)) from None

    def _report(self, error):
        body = {"phase": error.phase, "type": error.kind, "message": str(error), "traceback": error.traceback}
        text = "The function cannot start (%s): %s: %s\n%s" % (error.phase, error.kind, error, error.traceback)
        attributes = {"exception.type": error.kind, "exception.message": str(error)}
        if error.traceback:
            attributes["exception.stacktrace"] = error.traceback
        self.telemetry.add_log(40, "vast-runtime", logs.RUNTIME_LOGGER, text.splitlines()[0], attributes=attributes)
        self.capture.console.write(text if text.endswith("\n") else text + "\n", 2)
        if self.gateway is not None:
            try:
                self.gateway.post("/v1/failed", json.dumps(body).encode("utf-8", "replace"), 10.0)
            except GatewayError as lost:
                self.capture.console.write("and the engine could not be told: %s\n" % lost, 2)

    def _leave_to_child(self):
        for part in (self.gateway, self.telemetry, self.capture):
            if part is not None:
                part.leave_to_child()

    def engine_gone(self, reason):
        """Ends the process at once: nobody is left to take results."""
        try:
            os.write(2, ("martlet worker: %s; exiting\n" % reason).encode())
        except OSError:
            pass
        if self.settings.socket:
            try:
                os.unlink(self.settings.socket)
            except OSError:
                pass
        os._exit(EXIT_ENGINE_GONE)

    def close(self):
        """Removes the socket, sends what telemetry is left and writes what the consoles hold."""
        if self._listening and os.path.exists(self.settings.socket):
            os.unlink(self.settings.socket)
        self.capture.drain(1.0)
        self.ctx.flush_telemetry(2.0)


def _watch_parent(gateway, gone):
    """Calls `gone(reason)` when the process that started this one dies or the gateway is lost for five seconds."""
    if gateway is None:
        return
    parent = os.getppid()
    number = signal.SIGRTMIN + 7 if hasattr(signal, "SIGRTMIN") else None

    def died():
        return os.getppid() != parent

    if number is not None:
        signal.signal(number, lambda *_: died() and gone("the engine's process ended"))

    def watch():
        if number is not None:
            _ask_for_death_signal(number)
        held, lost_since = None, None
        while True:
            if died():
                gone("the engine's process ended")
            try:
                if held is None:
                    held = gateway.connect(1.0)
                    lost_since = None
                held.settimeout(0.5)
                if not held.recv(4096):
                    raise OSError("closed")
            except TimeoutError:
                continue
            except OSError as error:
                if "timed out" in str(error):
                    continue
                if held is not None:
                    held.close()
                    held = None
                now = time.monotonic()
                lost_since = lost_since or now
                if now - lost_since > 5.0:
                    gone("the engine's gateway is gone")
                time.sleep(0.2)

    threading.Thread(target=watch, name="martlet-watch", daemon=True).start()


def _ask_for_death_signal(number):
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, int(number), 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass


def leave(status):
    """Ends the process with `status`, running exit handlers but waiting for no thread."""
    import atexit

    guard = threading.Timer(2.0, os._exit, (status,))
    guard.daemon = True
    guard.start()
    try:
        atexit._run_exitfuncs()
    except BaseException:
        pass
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    os._exit(status)


def _tell_failed(environ, error):
    """Posts a failure that came before there was a worker."""
    path = environ.get("MARTLET_GATEWAY_SOCKET")
    if not path:
        return
    gateway = Gateway(path, environ.get("MARTLET_WORKER_TOKEN", ""), environ.get("MARTLET_WORKER_ID", "local"))
    body = {"phase": error.phase, "type": error.kind, "message": str(error), "traceback": ""}
    try:
        gateway.post("/v1/failed", json.dumps(body).encode(), 10.0)
    except GatewayError as lost:
        sys.stderr.write("and the engine could not be told: %s\n" % lost)


def main():
    """Runs the worker as the environment says."""
    try:
        worker = Worker(Settings())
    except LoadError as error:
        sys.stderr.write("martlet worker: %s\n" % error)
        _tell_failed(os.environ, error)
        return EXIT_FAILED
    if not worker.settings.socket and worker.settings.port is None:
        sys.stderr.write(
            "martlet worker: set MARTLET_WORKER_SOCKET or MARTLET_WORKER_PORT; "
            "to try a function by hand use: python -m martlet.localrun --app-path .\n"
        )
        return EXIT_FAILED
    return worker.run()


if __name__ == "__main__":
    leave(main())
