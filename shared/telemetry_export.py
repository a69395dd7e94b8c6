"""OpenTelemetry: spans and metrics to whoever the settings name, by the official SDK.

Only composition imports this module, and only where telemetry is on: the SDK takes a while to import.

Rule: the SDK's providers are ours alone, not the process's global ones, so that no library in it begins to tell things of its
own. Spans are made of values when what they tell of is over. Exporting happens in threads of the SDK's; what a process that is
killed had not told by then is lost: telemetry is no ledger. The SDK itself reads OTEL_*,
see https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import atexit
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, override

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from shared.core.call_record import CallRecord
from shared.core.configuration import Configuration, Upstream
from shared.core.headers import Headers
from shared.core.trace_context import TraceContext, child, trace_of
from shared.core.tracing import BACKLOG, METRICS, Attributes, Kind, Measurement, Span, measurements_of, spans_of
from shared.settings import Settings
from shared.telemetry import Exporter, Telemetry, exporters_of

_SCOPE = "tollgate"


class OpenTelemetry(Telemetry):
    """On. One per process."""

    def __init__(
        self,
        settings: Settings,
        *,
        service: Mapping[str, str],
        now: Callable[[], datetime],
        configuration: Callable[[], Configuration | None],
    ) -> None:
        """`service`: who we are, as attributes of the resource; `configuration`: the one in force."""
        self._now = now
        self._configuration = configuration
        self._upstreams: tuple[Configuration | None, Mapping[str, Upstream]] = (None, {})
        self._ids = _GivenIds()
        resource = Resource.create({**service, **OTELResourceDetector().detect().attributes})
        self._spans = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        readers = []
        for exporter in sorted(exporters_of(settings)):
            traces, metrics = _exporters(exporter, settings, self._spans)
            self._spans.add_span_processor(BatchSpanProcessor(traces))
            readers.append(PeriodicExportingMetricReader(metrics))
        self._metrics = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
        self._tracer = self._spans.get_tracer(_SCOPE)
        meter = self._metrics.get_meter(_SCOPE)
        self._histograms = {
            name: meter.create_histogram(
                name, metric.unit, metric.help, explicit_bucket_boundaries_advisory=metric.bounds
            )
            for name, metric in METRICS.items()
        }
        self._backlog = meter.create_gauge(BACKLOG, "{item}", "What waits to be kept, as of the timer's last run.")
        atexit.register(self.close)

    @override
    def begin(self, headers: Headers) -> TraceContext:
        caller = trace_of(headers)
        return child(caller, _new_id(8)) if caller else self._root("call")

    @override
    def ended(self, record: CallRecord) -> None:
        upstreams = self._known_upstreams()
        for span in spans_of(record, upstreams):
            self._emit(span)
        for measurement in measurements_of(record, upstreams):
            self._measure(measurement)

    @override
    @contextmanager
    def step(
        self, name: str, kind: Kind = Kind.INTERNAL, *parents: TraceContext | None
    ) -> Iterator[TraceContext | None]:
        known = [child(parent, _new_id(8)) for parent in parents if parent] if parents else [self._root(name)]
        start, error = self._now(), None
        try:
            yield known[0] if known else None
        except BaseException as failure:
            error = type(failure).__name__
            raise
        finally:
            end = self._now()
            about: Attributes = {"tollgate.step": name}
            if error:
                about["error.type"] = error
            self._measure(
                Measurement(metric="tollgate.step.duration", value=(end - start).total_seconds(), attributes=about)
            )
            for context in known:
                if context.is_sampled:
                    self._emit(
                        Span(name=name, kind=kind, context=context, start=start, end=end, attributes={}, error=error)
                    )

    @override
    def backlog(self, waiting: Mapping[str, int | None]) -> None:
        for what, number in waiting.items():
            if number is not None:
                self._backlog.set(number, {f"{BACKLOG}.of": what})

    @override
    def close(self) -> None:
        self._spans.shutdown()
        self._metrics.shutdown()
        atexit.unregister(self.close)

    def _root(self, name: str) -> TraceContext:
        trace_id = _new_id(16)
        decision = self._spans.sampler.should_sample(None, int(trace_id, 16), name).decision
        return TraceContext(trace_id=trace_id, span_id=_new_id(8), is_sampled=decision is Decision.RECORD_AND_SAMPLE)

    def _emit(self, span: Span) -> None:
        self._ids.given = span.context
        made = self._tracer.start_span(
            span.name,
            context=_below(span.context),
            kind=SpanKind[span.kind],
            attributes=span.attributes,
            start_time=_ns(span.start),
        )
        if span.error:
            made.set_attributes(
                {"error.type": span.error, "tollgate.error": span.error}
            )  # the former is kept from Insights
            made.set_status(Status(StatusCode.ERROR))
        made.end(_ns(span.end))

    def _measure(self, measurement: Measurement) -> None:
        self._histograms[measurement.metric].record(measurement.value, measurement.attributes)

    def _known_upstreams(self) -> Mapping[str, Upstream]:
        """The upstreams in force by name, indexed once per configuration."""
        configuration = self._configuration()
        if configuration is not self._upstreams[0]:
            targets = configuration.home.targets if configuration else ()
            self._upstreams = configuration, {target.upstream.name: target.upstream for target in targets}
        return self._upstreams[1]


class _GivenIds(IdGenerator):
    """The ids of the span that is being made, which were chosen before: the SDK would choose its own."""

    given: TraceContext

    @override
    def generate_span_id(self) -> int:
        return int(self.given.span_id, 16)

    @override
    def generate_trace_id(self) -> int:
        return int(self.given.trace_id, 16)


def _below(context: TraceContext) -> Any:
    """The SDK's context of a span's parent; an empty one for a root."""
    if context.parent_id is None:
        return set_span_in_context(NonRecordingSpan(SpanContext(0, 0, is_remote=False)))
    flags = TraceFlags(TraceFlags.SAMPLED if context.is_sampled else TraceFlags.DEFAULT)
    parent = SpanContext(int(context.trace_id, 16), int(context.parent_id, 16), is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(parent))


def _exporters(exporter: Exporter, settings: Settings, provider: TracerProvider) -> tuple[SpanExporter, MetricExporter]:
    if exporter is Exporter.OTLP:
        return OTLPSpanExporter(), OTLPMetricExporter()
    # A second of a cold start that others need not spend.
    from azure.monitor.opentelemetry.exporter import AzureMonitorMetricExporter, AzureMonitorTraceExporter

    options = {
        "connection_string": settings.application_insights,
        "credential": _credential(settings.application_insights_identity),
        "disable_offline_storage": True,  # an instance's disk goes with it
    }
    return AzureMonitorTraceExporter(**options, tracer_provider=provider), AzureMonitorMetricExporter(**options)


def _credential(authentication: str) -> Any:
    """The identity in `Authorization=AAD;ClientId=...`, as the Functions host reads it too; None: the connection string's key."""
    fields = dict(pair.partition("=")[::2] for pair in authentication.split(";"))
    if fields.get("Authorization") != "AAD":
        return None
    from azure.identity import ManagedIdentityCredential

    return ManagedIdentityCredential(client_id=fields.get("ClientId") or None)


def _new_id(size: int) -> str:
    return secrets.token_hex(size)


def _ns(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000) * 1000
