# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""User metrics: OpenTelemetry's SDK where it is installed, else a small meter with the same methods."""

import bisect
import threading
import time

from .telemetry import otlp_attributes, otlp_double

BOUNDS = (0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000)
SERIES_MAX = 1000
INTERVAL_MILLIS = 5000

_CUMULATIVE = 2
_sdk = None
_metering = None


class Metering:
    """A meter and its instruments by name."""

    def __init__(self, meter):
        self.meter = meter
        self._lock = threading.Lock()
        self._known = {}

    def instrument(self, kind, name, description, unit):
        """Returns the instrument of that name, made at its first use; one name is one kind."""
        found = self._known.get(name)
        if found is None:
            with self._lock:
                found = self._known.get(name)
                if found is None:
                    made = getattr(self.meter, "create_" + kind)(name, unit=unit, description=description)
                    found = self._known[name] = (kind, made)
        if found[0] != kind:
            raise ValueError("metric %r is a %s already, not a %s" % (name, found[0], kind))
        return found[1]


def metering(telemetry):
    """Returns the worker's metering."""
    global _metering
    if _metering is None:
        try:
            from opentelemetry import metrics

            meter = metrics.get_meter("martlet") if _sdk is not None and _sdk.ready() else Meter(telemetry)
        except ImportError:
            meter = Meter(telemetry)
        _metering = Metering(meter)
    return _metering


def set_up(metrics, telemetry):
    """Gives OpenTelemetry's API a provider; called once its `metrics` module is imported."""
    global _sdk
    _sdk = _provider_class(metrics)(telemetry)
    metrics.set_meter_provider(_sdk)


def flush(seconds):
    """Sends what OpenTelemetry's SDK holds."""
    if _sdk is not None:
        _sdk.flush(seconds)


def _provider_class(metrics):
    class LazyProvider(metrics.MeterProvider):
        """Loads OpenTelemetry's SDK with the first meter."""

        def __init__(self, telemetry):
            self._telemetry = telemetry
            self._made = None

        def ready(self):
            """Tells whether the SDK can be imported."""
            try:
                self._provider()
                return True
            except ImportError:
                return False

        def flush(self, seconds):
            """Collects and sends now."""
            if self._made is not None:
                self._made.force_flush(timeout_millis=int(seconds * 1000))

        def _provider(self):
            if self._made is None:
                from opentelemetry.sdk.metrics import MeterProvider
                from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
                from opentelemetry.sdk.resources import Resource

                reader = PeriodicExportingMetricReader(
                    _exporter(self._telemetry), export_interval_millis=INTERVAL_MILLIS
                )
                self._made = MeterProvider([reader], resource=Resource({}), shutdown_on_exit=False)
            return self._made

        def get_meter(self, *args, **kwargs):
            try:
                return self._provider().get_meter(*args, **kwargs)
            except ImportError:
                return metrics.NoOpMeter(args[0] if args else "martlet")

    return LazyProvider


def _exporter(telemetry):
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult

    class Exporter(MetricExporter):
        """Sends OpenTelemetry's metrics as OTLP/JSON."""

        def export(self, metrics_data, timeout_millis=10_000, **_options):
            scopes = [
                (scoped.scope.name, [found for found in map(_from_sdk, scoped.metrics) if found])
                for resource in metrics_data.resource_metrics
                for scoped in resource.scope_metrics
            ]
            scopes = [(name, found) for name, found in scopes if found]
            if not scopes or telemetry.post("/v1/metrics", telemetry.metrics_text(scopes)):
                return MetricExportResult.SUCCESS
            return MetricExportResult.FAILURE

        def force_flush(self, timeout_millis=10_000):
            return True

        def shutdown(self, timeout_millis=30_000, **_options):
            pass

    return Exporter()


def _number(value):
    return {"asInt": str(value)} if isinstance(value, int) else {"asDouble": otlp_double(float(value))}


def _from_sdk(metric):
    data = metric.data
    points = []
    for point in data.data_points:
        done = {
            "attributes": otlp_attributes(point.attributes),
            "startTimeUnixNano": str(point.start_time_unix_nano or 0),
            "timeUnixNano": str(point.time_unix_nano),
        }
        if hasattr(point, "value"):
            done.update(_number(point.value))
        elif hasattr(point, "explicit_bounds"):
            done.update(
                count=str(point.count),
                sum=otlp_double(float(point.sum)),
                min=otlp_double(float(point.min)),
                max=otlp_double(float(point.max)),
                bucketCounts=[str(count) for count in point.bucket_counts],
                explicitBounds=[float(bound) for bound in point.explicit_bounds],
            )
        else:
            return None
        points.append(done)
    named = {"name": metric.name, "description": metric.description or "", "unit": metric.unit or ""}
    temporality = getattr(data, "aggregation_temporality", None)
    if temporality is None:
        named["gauge"] = {"dataPoints": points}
    else:
        kind = "sum" if hasattr(data, "is_monotonic") else "histogram"
        named[kind] = {"dataPoints": points, "aggregationTemporality": int(temporality)}
        if kind == "sum":
            named[kind]["isMonotonic"] = data.is_monotonic
    return named


class Meter:
    """A meter for workers without OpenTelemetry: cumulative sums, last values and histograms."""

    def __init__(self, telemetry):
        self._lock = threading.Lock()
        self._instruments = {}
        self._started = time.time_ns()
        if telemetry is not None:
            telemetry.add_metrics_source(self.collect)

    def _make(self, kind, name, unit, description):
        with self._lock:
            made = self._instruments.get((kind, name))
            if made is None:
                made = self._instruments[kind, name] = _Instrument(kind, name, unit, description, self._lock)
        return made

    def create_counter(self, name, unit="", description=""):
        """Returns an instrument whose `add` takes amounts of at least 0."""
        return self._make("counter", name, unit, description)

    def create_up_down_counter(self, name, unit="", description=""):
        """Returns an instrument whose `add` takes any amount."""
        return self._make("up_down_counter", name, unit, description)

    def create_histogram(self, name, unit="", description="", **_options):
        """Returns an instrument whose `record` takes samples."""
        return self._make("histogram", name, unit, description)

    def create_gauge(self, name, unit="", description=""):
        """Returns an instrument whose `set` takes the present value."""
        return self._make("gauge", name, unit, description)

    def collect(self):
        """Returns the OTLP metrics that have points."""
        with self._lock:
            return [made.otlp(self._started) for made in self._instruments.values() if made.series]


class _Instrument:
    def __init__(self, kind, name, unit, description, lock):
        self.name = name
        self.series = {}
        self._kind = kind
        self._unit = unit or ""
        self._description = description or ""
        self._lock = lock

    def _entry(self, attributes, make):
        key = tuple(sorted((attributes or {}).items(), key=lambda item: item[0])) if attributes else ()
        try:
            entry = self.series.get(key)
        except TypeError:
            key = tuple((name, str(value)) for name, value in key)
            entry = self.series.get(key)
        if entry is None:
            if len(self.series) >= SERIES_MAX:
                key = (("otel.metric.overflow", True),)
                entry = self.series.get(key)
            if entry is None:
                entry = self.series[key] = make()
        return entry

    def add(self, amount, attributes=None, context=None):
        """Adds to the sum."""
        if self._kind == "counter" and amount < 0:
            return
        with self._lock:
            self._entry(attributes, lambda: [0])[0] += amount

    def set(self, amount, attributes=None, context=None):
        """Sets the present value."""
        with self._lock:
            self._entry(attributes, lambda: [0])[0] = amount

    def record(self, amount, attributes=None, context=None):
        """Takes one sample."""
        with self._lock:
            entry = self._entry(attributes, lambda: [0, 0.0, amount, amount, [0] * (len(BOUNDS) + 1)])
            entry[0] += 1
            entry[1] += amount
            entry[2] = min(entry[2], amount)
            entry[3] = max(entry[3], amount)
            entry[4][bisect.bisect_left(BOUNDS, amount)] += 1

    def otlp(self, started):
        """Returns the OTLP metric."""
        now = str(time.time_ns())
        points = []
        for key, entry in self.series.items():
            point = {"attributes": otlp_attributes(dict(key)), "startTimeUnixNano": str(started), "timeUnixNano": now}
            if self._kind == "histogram":
                count, total, least, most, buckets = entry
                point.update(
                    count=str(count),
                    sum=otlp_double(float(total)),
                    min=otlp_double(float(least)),
                    max=otlp_double(float(most)),
                    bucketCounts=[str(bucket) for bucket in buckets],
                    explicitBounds=[float(bound) for bound in BOUNDS],
                )
            else:
                point.update(_number(entry[0]))
            points.append(point)
        named = {"name": self.name, "description": self._description, "unit": self._unit}
        if self._kind == "gauge":
            named["gauge"] = {"dataPoints": points}
        elif self._kind == "histogram":
            named["histogram"] = {"dataPoints": points, "aggregationTemporality": _CUMULATIVE}
        else:
            named["sum"] = {
                "dataPoints": points,
                "aggregationTemporality": _CUMULATIVE,
                "isMonotonic": self._kind == "counter",
            }
        return named
