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
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class _Attentive(InMemorySpanExporter):
    """Keeps spans only while somebody is interested, so that no other test's memory grows with them."""

    attentive = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return super().export(spans) if self.attentive else SpanExportResult.SUCCESS


class Exported:
    """What an operator would get."""

    def __init__(self) -> None:
        self._spans = _Attentive()
        self._metrics = InMemoryMetricReader()
        traces = TracerProvider()
        traces.add_span_processor(SimpleSpanProcessor(self._spans))
        trace.set_tracer_provider(traces)
        metrics.set_meter_provider(MeterProvider([self._metrics]))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keep spans as long as the context lasts."""
        self._spans.clear()
        self._spans.attentive = True
        yield
        self._spans.attentive = False
        self._spans.clear()

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
        data = self._metrics.get_metrics_data()
        return [
            (dict(point.attributes), float(point.value if hasattr(point, "value") else point.count))
            for metric in _metrics(data)
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
    """The only one of this process: providers can be set once."""
    return Exported()


@pytest.fixture
def exported() -> Iterator[Exported]:
    """Spans and metrics from now on; counters go on from where earlier tests left them."""
    exported = _exported()
    with exported.listening():
        yield exported
