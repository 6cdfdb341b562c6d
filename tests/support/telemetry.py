"""An SDK of OpenTelemetry in this process, whose spans and metrics a test can look at."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class _Switch(trace.TracerProvider):
    """Gives tracers of the SDK that do nothing while it is off: a provider can be set once, and other tests have none."""

    def __init__(self, sdk: trace.TracerProvider) -> None:
        self.sdk, self.off = sdk, trace.NoOpTracerProvider()
        self.on = False

    def get_tracer(self, *args: Any, **parts: Any) -> trace.Tracer:
        return _SwitchedTracer(self, self.sdk.get_tracer(*args, **parts), self.off.get_tracer(*args, **parts))


class _SwitchedTracer(trace.Tracer):
    def __init__(self, switch: _Switch, real: trace.Tracer, idle: trace.Tracer) -> None:
        self._switch, self._real, self._idle = switch, real, idle

    def start_span(self, *args: Any, **parts: Any) -> trace.Span:
        return (self._real if self._switch.on else self._idle).start_span(*args, **parts)

    def start_as_current_span(self, *args: Any, **parts: Any) -> Any:
        return (self._real if self._switch.on else self._idle).start_as_current_span(*args, **parts)


class Exported:
    """What an operator would get."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._metrics = InMemoryMetricReader()
        sdk = TracerProvider()
        sdk.add_span_processor(SimpleSpanProcessor(self._spans))
        self._switch = _Switch(sdk)
        trace.set_tracer_provider(self._switch)
        metrics.set_meter_provider(MeterProvider([self._metrics]))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Make and keep spans as long as the context lasts."""
        self._spans.clear()
        self._switch.on = True
        yield
        self._switch.on = False

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """All that have ended, in the order in which they did."""
        return self._spans.get_finished_spans()

    def named(self, name: str) -> ReadableSpan:
        """The only span of that name."""
        [span] = [span for span in self.spans if span.name == name]
        return span

    def points(self, name: str) -> list[tuple[Mapping[str, Any], float]]:
        """Attributes and value (a histogram's count) of each point of a metric since the process began."""
        return [
            (dict(point.attributes), float(point.value if hasattr(point, "value") else point.count))
            for metric in _metrics(self._metrics.get_metrics_data())
            if metric.name == name
            for point in metric.data.data_points
        ]

    def texts(self) -> list[str]:
        """Everything that leaves the process, as JSON."""
        data = self._metrics.get_metrics_data()
        return [*(span.to_json() for span in self.spans), *(metric.to_json() for metric in _metrics(data))]


def _metrics(data: MetricsData | None) -> Iterator[Any]:
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            yield from scope.metrics


@cache
def _exported() -> Exported:
    """The only one of this process."""
    return Exported()


@pytest.fixture
def exported() -> Iterator[Exported]:
    """Spans and metrics from now on; counters go on from where earlier tests left them."""
    exported = _exported()
    with exported.listening():
        yield exported
