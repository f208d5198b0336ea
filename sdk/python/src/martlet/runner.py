# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Runs handler calls: a pool of threads for plain handlers, a second event loop for async ones."""

import asyncio
import contextvars
import logging
import threading
import time
from _thread import allocate_lock
from collections import deque

from . import encoding, loader, outputs
from .events import VastEventList, check_strictly, event_from
from .logs import RUNTIME_LOGGER
from .state import Invocation, current

#: A call longer than this counts as one that waits, so more threads are woken at once.
LONG_CALL_MICROS = 200
SUPERVISE_SECONDS = 0.002
TICK_SECONDS = 0.2

log = logging.getLogger(RUNTIME_LOGGER)


class _Slot:
    """What one pool thread is doing."""

    __slots__ = ("current", "lock", "ident")

    def __init__(self):
        self.current = None
        self.ident = threading.get_ident()
        self.lock = allocate_lock()
        self.lock.acquire()


class Runner:
    """Takes calls `(request, index, raw)` on the server's loop and hands results back to it.

    `index` and `raw` are lists when the call is a batch. A request has `strict`, `closed`, `sends_on`,
    `deliver(fragment, count, error)` and `running(items)`, all used on the server's loop only.
    """

    def __init__(self, ctx, function, limit, timeout, capture=None, sink=None, event_log_level=logging.DEBUG):
        self._ctx = ctx
        self._function = function
        self._handler = function.handler
        self._limit = max(1, limit)
        self._timeout_micros = int(timeout * 1_000_000)
        self._capture = capture
        self._sink = sink
        self._level = event_log_level
        self._loop = None
        self._base = contextvars.copy_context()
        self._queue = deque()
        self._done = deque()
        self._signalled = False
        self._slots = []
        self._idle = []
        self._threads = 0
        self._long_share = 1.0
        self._finished = 0
        self._seen_finished = 0
        self._step = 1
        self._supervising = False
        self._async_loop = None
        self._async_running = set()
        self._async_tasks = {}
        self._async_count = 0
        self._async_signalled = False
        self._requests = set()
        self._tick_handle = None
        self._running_due = 0.0
        self._stopping = False

    # The server's loop.

    def start(self, loop):
        """Binds the runner to the server's loop; call on that loop once `init` is done."""
        self._loop = loop
        self._base = contextvars.copy_context()
        if self._function.is_async:
            self._start_async()

    def submit(self, request, raws):
        """Queues the calls of one request."""
        if self._function.is_batch:
            calls = _batches(request, raws)
        else:
            calls = [(request, index, raw) for index, raw in enumerate(raws)]
        self._requests.add(request)
        self._queue.extend(calls)
        if self._function.is_async:
            self._signal_async()
        else:
            self._wake()
            if len(calls) > 1 and not self._supervising:
                self._supervising = True
                self._loop.call_later(SUPERVISE_SECONDS, self._supervise)
        if self._tick_handle is None:
            self._running_due = self._loop.time() + TICK_SECONDS
            self._schedule_tick()

    def forget(self, request):
        """Drops a request whose connection is gone; its calls that have not begun never will."""
        request.closed = True
        self._requests.discard(request)

    @property
    def busy(self):
        """Tells whether a handler call is running or results are on their way."""
        return bool(self._done or self._async_running or any(slot.current is not None for slot in self._slots))

    async def drain(self, seconds):
        """Lets running calls end, for at most `seconds`; returns whether all did. Calls not begun are given up."""
        self._stopping = True
        self._queue.clear()
        deadline = self._loop.time() + seconds
        while self.busy and self._loop.time() < deadline:
            await asyncio.sleep(0.005)
        self._drain_done()
        finished = not self.busy
        for request in list(self._requests):
            request.abandon()
        self._requests.clear()
        return finished

    def _schedule_tick(self):
        wait = TICK_SECONDS
        if self._timeout_micros:
            wait = min(wait, max(0.01, self._timeout_micros / 10_000_000))
        self._tick_handle = self._loop.call_later(wait, self._tick)

    def _tick(self):
        self._tick_handle = None
        if not self._requests:
            return
        now = time.monotonic_ns() // 1000
        due = self._loop.time() >= self._running_due
        if due:
            self._running_due = self._loop.time() + TICK_SECONDS - 0.005
        found = {}
        active = [slot.current for slot in self._slots] + list(self._async_running)
        for invocation in active:
            if invocation is None or invocation.timed_out or not invocation.began:
                continue
            micros = now - invocation.began
            if self._timeout_micros and micros > self._timeout_micros:
                self._time_out(invocation, micros)
            elif due:
                items = found.setdefault(invocation.request, [])
                for index in invocation.index if type(invocation.index) is list else (invocation.index,):
                    items.append((index, max(0, micros // 1000)))
        if due:
            for request in self._requests:
                request.running(found.get(request, ()))
        if self._requests:
            self._schedule_tick()

    def _time_out(self, invocation, micros):
        invocation.timed_out = True
        message = "the handler ran longer than %g s" % (self._timeout_micros / 1_000_000)
        error = {"type": "TimeoutError", "message": message, "traceback": self._stack_of(invocation)}
        text = encoding.dumps(error)
        indexes = invocation.index if type(invocation.index) is list else [invocation.index]
        fragment = ",".join(
            '[%d,"timeout",%d,%d,null,%s]' % (index, invocation.start, micros, text) for index in indexes
        )
        extra = {"ids": invocation.ids, "event_id": invocation.event_id, "martlet_traceback": error["traceback"]}
        log.error("Error in handler execution: %s", message, extra=extra)
        task = self._async_task_of(invocation)
        if task is not None:
            self._async_loop.call_soon_threadsafe(task.cancel)
        elif not self._function.is_async:
            self._threads -= 1
            self._wake()
        if not invocation.request.closed:
            self._deliver(invocation.request, fragment, len(indexes), error)

    def _stack_of(self, invocation):
        """Returns where the call stands, from the frames of its thread or task."""
        import sys
        import traceback

        for slot in self._slots:
            if slot.current is invocation:
                frame = sys._current_frames().get(slot.ident)
                if frame is not None:
                    kept = [item for item in traceback.extract_stack(frame) if not loader._is_ours(item.filename)]
                    kept = [item for item in kept if not item.filename.endswith("/threading.py")]
                    return "Traceback (most recent call last):\n" + "".join(traceback.format_list(kept))
        task = self._async_task_of(invocation)
        if task is not None:
            frames = [item for frame in task.get_stack() for item in traceback.extract_stack(frame, limit=1)]
            kept = [item for item in frames if not loader._is_ours(item.filename)]
            return "Traceback (most recent call last):\n" + "".join(traceback.format_list(kept))
        return ""

    def _deliver(self, request, fragment, count, error):
        request.deliver(fragment, count, error)
        if request.closed:
            self._requests.discard(request)

    def _drain_done(self):
        self._signalled = False
        done = self._done
        touched = {}
        for _ in range(len(done)):
            invocation, fragment, count, error = done.popleft()
            request = invocation.request
            if invocation.timed_out or request.closed:
                continue
            group = touched.get(request)
            if group is None:
                touched[request] = [[fragment], count, error]
            else:
                group[0].append(fragment)
                group[1] += count
                group[2] = group[2] or error
        for request, (fragments, count, error) in touched.items():
            self._deliver(request, ",".join(fragments), count, error)
        if done and not self._signalled:
            self._signalled = True
            self._loop.call_soon(self._drain_done)

    def _finish(self, invocation, fragment, count, error):
        """Hands one result to the server's loop; called on any thread."""
        self._done.append((invocation, fragment, count, error))
        if not self._signalled:
            self._signalled = True
            self._loop.call_soon_threadsafe(self._drain_done)

    # The threads of plain handlers.

    def _wake(self):
        try:
            self._idle.pop().lock.release()
        except IndexError:
            if self._threads < self._limit and self._queue:
                self._threads += 1
                thread = threading.Thread(target=self._work, name="martlet-handler-%d" % self._threads, daemon=True)
                thread.start()

    def _supervise(self):
        """Wakes more threads while calls wait and none has ended: the handler waits for something."""
        if not self._queue or self._stopping:
            self._supervising = False
            self._step = 1
            return
        if self._finished == self._seen_finished:
            for _ in range(self._step):
                self._wake()
            self._step = min(self._step * 2, self._limit)
        else:
            self._step = 1
        self._seen_finished = self._finished
        self._loop.call_later(SUPERVISE_SECONDS, self._supervise)

    def _work(self):
        slot = _Slot()
        self._slots.append(slot)
        queue, popleft = self._queue, self._queue.popleft
        base = self._base
        invoke = self._invoke_batch if self._function.is_batch else self._invoke
        clock = time.monotonic_ns
        while True:
            try:
                call = popleft()
            except IndexError:
                self._idle.append(slot)
                if queue:
                    try:
                        self._idle.remove(slot)
                        continue
                    except ValueError:
                        pass
                slot.lock.acquire()
                continue
            if queue and self._long_share > 0.3:
                self._wake()
            request = call[0]
            if request.closed or self._stopping:
                continue
            invocation = Invocation(request, call[1], call[2])
            invocation.start = time.time_ns() // 1000
            invocation.began = clock() // 1000
            slot.current = invocation
            try:
                base.copy().run(invoke, invocation)
            except BaseException as error:
                self._finish_error(invocation, error)
            slot.current = None
            self._finished += 1
            if clock() // 1000 - invocation.began > LONG_CALL_MICROS:
                self._long_share += (1.0 - self._long_share) * 0.1
            else:
                self._long_share -= self._long_share * 0.1
            if invocation.timed_out:
                self._slots.remove(slot)
                return

    def _invoke(self, invocation):
        current.set(invocation)
        raw = invocation.raw
        request = invocation.request
        try:
            if request.strict:
                check_strictly(raw)
            event = event_from(raw)
            shown = log.isEnabledFor(self._level)
            if shown:
                self._log_start(event)
            value = self._handler(self._ctx, event)
            if value is not None and hasattr(value, "__await__"):
                value = self._await(value)
            micros = time.monotonic_ns() // 1000 - invocation.began
            out = None if value is None else outputs.output_text(value, event)
            if shown:
                self._log_end(event, value, micros)
            if request.sends_on:
                self._send_on(event, value)
        except BaseException as error:
            self._finish_error(invocation, error)
            return
        if invocation.lines:
            self._capture.finish(invocation)
        span = invocation.span
        if span is None:
            if out is None:
                fragment = '[%d,"ok",%d,%d]' % (invocation.index, invocation.start, micros)
            else:
                fragment = '[%d,"ok",%d,%d,%s]' % (invocation.index, invocation.start, micros, out)
        else:
            fragment = '[%d,"ok",%d,%d,%s,null,%s]' % (
                invocation.index,
                invocation.start,
                micros,
                out or "null",
                _span_text(span),
            )
        self._finish(invocation, fragment, 1, None)

    def _invoke_batch(self, invocation):
        current.set(invocation)
        try:
            events = self._batch_events(invocation)
            value = self._handler(self._ctx, VastEventList(events))
            if value is not None and hasattr(value, "__await__"):
                value = self._await(value)
            self._finish_batch(invocation, events, value)
        except BaseException as error:
            self._finish_error(invocation, error)

    def _batch_events(self, invocation):
        if invocation.request.strict:
            for raw in invocation.raw:
                check_strictly(raw)
        events = [event_from(raw) for raw in invocation.raw]
        if log.isEnabledFor(self._level):
            for event in events:
                self._log_start(event)
        return events

    def _finish_batch(self, invocation, events, value):
        micros = time.monotonic_ns() // 1000 - invocation.began
        outs = outputs.batch_outputs(value, events)
        if log.isEnabledFor(self._level):
            for event in events:
                self._log_end(event, value, micros)
        if invocation.request.sends_on and value is not None:
            for event, item in zip(events, value):
                self._send_on(event, item)
        if invocation.lines:
            self._capture.finish(invocation)
        tail = "" if invocation.span is None else ",null," + _span_text(invocation.span)
        fragment = ",".join(
            '[%d,"ok",%d,%d,%s%s]' % (index, invocation.start, micros, out or "null", tail)
            for index, out in zip(invocation.index, outs)
        )
        self._finish(invocation, fragment, len(outs), None)

    def _await(self, awaitable):
        """Runs what a plain handler returned unawaited."""

        async def run():
            return await awaitable

        if self._async_loop is None:
            self._start_async()
        return asyncio.run_coroutine_threadsafe(run(), self._async_loop).result()

    def _finish_error(self, invocation, error):
        micros = time.monotonic_ns() // 1000 - invocation.began
        trace = loader.user_traceback(error)
        message = loader.error_text(error)
        if isinstance(error, SystemExit):
            message = "the handler called exit(%s); return or raise an exception instead" % error.code
        described = {"type": type(error).__name__, "message": message, "traceback": trace}
        if not invocation.timed_out:
            log.error(
                "Error in handler execution: %s: %s",
                described["type"],
                message,
                extra={
                    "martlet_traceback": trace,
                    "attributes": {"exception.type": described["type"], "exception.message": message},
                },
            )
        if invocation.lines:
            self._capture.finish(invocation)
        span = "null" if invocation.span is None else _span_text(invocation.span)
        text = encoding.dumps(described)
        indexes = invocation.index if type(invocation.index) is list else [invocation.index]
        fragment = ",".join(
            '[%d,"error",%d,%d,null,%s,%s]' % (index, invocation.start, micros, text, span) for index in indexes
        )
        if log.isEnabledFor(self._level):
            log.log(self._level, "END EventId: %s, Duration: %.4fs", invocation.event_id, micros / 1e6)
        self._finish(invocation, fragment, len(indexes), described)

    def _log_start(self, event):
        log.log(
            self._level,
            "START EventId: %s, TraceId: %s, EventType: %s, EventSource: %s",
            event.id,
            event.get_trace_id(),
            event.get("type"),
            event.get("source"),
        )

    def _log_end(self, event, value, micros):
        log.log(self._level, "Function returned: %.2000s with duration %.2f ms", value, micros / 1000)
        if self._sink is None:
            log.log(self._level, "No sink URL configured")
        log.log(self._level, "END EventId: %s, Duration: %.4fs", event.id, micros / 1e6)

    def _send_on(self, event, value):
        if self._sink is None or value is None:
            return
        self._sink.send(event, value)
        log.log(self._level, "CloudEvent sent to sink")

    # The loop of async handlers.

    def run_async(self, coroutine):
        """Runs a coroutine on the async handlers' loop and waits for it."""
        if self._async_loop is None:
            self._start_async()
        context = contextvars.copy_context()
        future = asyncio.run_coroutine_threadsafe(_within(context, coroutine), self._async_loop)
        return future.result()

    def _start_async(self):
        if self._async_loop is not None:
            return
        self._async_loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._run_async_loop, name="martlet-async", daemon=True)
        thread.start()

    def _run_async_loop(self):
        asyncio.set_event_loop(self._async_loop)
        self._async_loop.run_forever()

    def _signal_async(self):
        if not self._async_signalled:
            self._async_signalled = True
            self._async_loop.call_soon_threadsafe(self._pump)

    def _pump(self):
        self._async_signalled = False
        queue = self._queue
        while queue and self._async_count < self._limit:
            try:
                call = queue.popleft()
            except IndexError:
                return
            if call[0].closed or self._stopping:
                continue
            invocation = Invocation(call[0], call[1], call[2])
            self._async_count += 1
            self._async_running.add(invocation)
            task = self._base.copy().run(self._async_loop.create_task, self._invoke_async(invocation))
            self._async_tasks[invocation] = task

    def _async_task_of(self, invocation):
        return self._async_tasks.get(invocation)

    async def _invoke_async(self, invocation):
        current.set(invocation)
        invocation.start = time.time_ns() // 1000
        invocation.began = time.monotonic_ns() // 1000
        request = invocation.request
        loop = self._async_loop
        try:
            if type(invocation.raw) is list:
                events = self._batch_events(invocation)
                value = await self._handler(self._ctx, VastEventList(events))
                if request.sends_on and self._sink is not None:
                    context = contextvars.copy_context()
                    await loop.run_in_executor(None, context.run, self._finish_batch, invocation, events, value)
                else:
                    self._finish_batch(invocation, events, value)
            else:
                await self._one_async(invocation, request, loop)
        except BaseException as error:
            self._finish_error(invocation, error)
        finally:
            self._async_count -= 1
            self._async_running.discard(invocation)
            self._async_tasks.pop(invocation, None)
            if self._queue:
                self._pump()

    async def _one_async(self, invocation, request, loop):
        if request.strict:
            check_strictly(invocation.raw)
        event = event_from(invocation.raw)
        shown = log.isEnabledFor(self._level)
        if shown:
            self._log_start(event)
        value = await self._handler(self._ctx, event)
        micros = time.monotonic_ns() // 1000 - invocation.began
        out = None if value is None else outputs.output_text(value, event)
        if shown:
            self._log_end(event, value, micros)
        if request.sends_on and self._sink is not None and value is not None:
            await loop.run_in_executor(None, contextvars.copy_context().run, self._send_on, event, value)
        if invocation.lines:
            self._capture.finish(invocation)
        tail = "" if invocation.span is None else ",null," + _span_text(invocation.span)
        fragment = '[%d,"ok",%d,%d,%s%s]' % (invocation.index, invocation.start, micros, out or "null", tail)
        self._finish(invocation, fragment, 1, None)


async def _within(context, coroutine):
    return await context.run(asyncio.ensure_future, coroutine)


def _span_text(span):
    report = span.report()
    return "null" if report is None else encoding.dumps(report)


def _batches(request, raws):
    """Groups events of one `martletbatch` number, or of one posted batch, into one call each."""
    if request.one_batch:
        return [(request, list(range(len(raws))), list(raws))] if raws else []
    calls, last = [], None
    for index, raw in enumerate(raws):
        number = raw.get("martletbatch") if isinstance(raw, dict) else None
        if calls and number is not None and number == last:
            calls[-1][1].append(index)
            calls[-1][2].append(raw)
        else:
            calls.append((request, [index], [raw]))
        last = number
    return calls
