# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""OpenTelemetry where it is installed: loaded only when user code asks for it.

User code that imports `opentelemetry.trace` gets a provider whose spans go to the engine, and a current span that is
the running invocation's.
"""

import importlib.machinery
import importlib.util
import sys
from contextvars import ContextVar

from . import tracing
from .state import current

_telemetry = None
_provider = None
_own_tracer = None
_HOOKED = ("opentelemetry.trace", "opentelemetry.metrics")


def install(telemetry):
    """Arranges for OpenTelemetry to be set up the moment it is imported."""
    global _telemetry
    _telemetry = telemetry
    sys.meta_path.insert(0, _Finder())
    for name in _HOOKED:
        if name in sys.modules:
            _loaded(name)


def tracer(telemetry):
    """Returns OpenTelemetry's tracer when its SDK can be imported, else our own."""
    global _own_tracer
    try:
        from opentelemetry import trace

        if _provider is not None:
            _provider.sdk()
            return trace.get_tracer("martlet")
    except ImportError:
        pass
    if _own_tracer is None:
        _own_tracer = tracing.Tracer(telemetry)
    return _own_tracer


def flush(seconds):
    """Sends metrics that OpenTelemetry's SDK holds."""
    metrics = sys.modules.get(__package__ + ".metrics")
    if metrics is not None:
        metrics.flush(seconds)


class _Finder:
    """Finds the hooked modules as usual, and runs our set-up after their code."""

    def __init__(self):
        self._inside = False

    def find_spec(self, name, path=None, target=None):
        if name not in _HOOKED or self._inside:
            return None
        self._inside = True
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return None
        finally:
            self._inside = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, name)
        return spec


class _Loader:
    def __init__(self, inner, name):
        self._inner = inner
        self._name = name

    def create_module(self, spec):
        return self._inner.create_module(spec)

    def exec_module(self, module):
        self._inner.exec_module(module)
        _loaded(self._name, module)

    def __getattr__(self, name):
        return getattr(self._inner, name)


def _loaded(name, module=None):
    module = module or sys.modules[name]
    try:
        if name == "opentelemetry.trace":
            _set_up_trace(module)
        else:
            from . import metrics

            metrics.set_up(module, _telemetry)
    except Exception as error:
        import logging

        logging.getLogger("martlet.runtime").warning("OpenTelemetry could not be set up: %s", error)


def _set_up_trace(trace):
    global _provider
    import opentelemetry.context as otel_context

    span_class = _span_class(trace)
    tracing.invocation_span_class = span_class
    otel_context._RUNTIME_CONTEXT = _context_class(otel_context, trace)()

    def ids():
        found = trace.get_current_span().get_span_context()
        return ("%032x" % found.trace_id, "%016x" % found.span_id) if found.is_valid else None

    tracing.foreign_ids = ids
    _provider = _provider_class(trace)()
    trace.set_tracer_provider(_provider)


def _span_class(trace):
    class InvocationSpan(tracing.SpanData, trace.Span):
        """The current span during a handler call; what is set on it returns with the result."""

        def get_span_context(self):
            return trace.SpanContext(
                int(self.trace_id, 16), int(self.span_id, 16), True, trace.TraceFlags(trace.TraceFlags.SAMPLED)
            )

        def end(self, end_time=None):
            """The runtime ends this span."""

    return InvocationSpan


def _context_class(otel_context, trace):
    held = ContextVar("martlet_otel_context", default=None)
    base = otel_context.Context
    empty = base()

    class RuntimeContext(otel_context._RuntimeContext):
        """OpenTelemetry's current context: what was attached, else one with the invocation's span."""

        def attach(self, context):
            return held.set(context)

        def get_current(self):
            found = held.get()
            if found is not None:
                return found
            invocation = current.get()
            if invocation is None:
                return empty
            return trace.set_span_in_context(tracing.invocation_span(invocation), empty)

        def detach(self, token):
            held.reset(token)

    return RuntimeContext


def _provider_class(trace):
    class LazyProvider(trace.TracerProvider):
        """Loads OpenTelemetry's SDK with the first tracer; everything else is the SDK's provider."""

        _sdk = None

        def sdk(self):
            """Returns the SDK's provider."""
            if self._sdk is None:
                from opentelemetry.sdk.resources import Resource
                from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

                class Exporter(SpanProcessor):
                    def on_start(self, span, parent_context=None):
                        pass

                    def on_end(self, span):
                        if span.context is not None and span.context.trace_flags.sampled:
                            _telemetry.add_span(span)

                    def shutdown(self):
                        pass

                    def force_flush(self, timeout_millis=2000):
                        _telemetry.flush(timeout_millis / 1000)
                        return True

                made = TracerProvider(resource=Resource({}), shutdown_on_exit=False)
                made.add_span_processor(Exporter())
                self._sdk = made
            return self._sdk

        def get_tracer(self, *args, **kwargs):
            try:
                return self.sdk().get_tracer(*args, **kwargs)
            except ImportError:
                return trace.NoOpTracer()

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return getattr(self.sdk(), name)

    return LazyProvider
