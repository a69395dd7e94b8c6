"""A collector: takes what OpenTelemetry's exporters send, in their own protocol (OTLP/HTTP with protobuf), and keeps it.

https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

import contextlib
import gzip
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan


@dataclass(frozen=True)
class Told:
    """A span as it arrived."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    is_error: bool
    attributes: dict[str, Any]
    service: str


@dataclass
class Collected:
    """What arrived so far. `metrics`: the attributes of each data point, by the metric's name."""

    spans: list[Told] = field(default_factory=list)
    metrics: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    raw: bytearray = field(default_factory=bytearray)

    def of_trace(self, trace_id: str) -> list[Told]:
        return [span for span in self.spans if span.trace_id == trace_id]


class Collector(ThreadingHTTPServer):
    """On a port of its own."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.collected = Collected()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that runs."""
    with Collector() as collector:
        thread = Thread(target=collector.serve_forever)
        thread.start()
        yield collector
        collector.shutdown()
        thread.join()


def tree(spans: Iterable[Told]) -> str:
    """One trace as people see it: a line a span, children below their parent, in the order in which they began."""
    known = sorted(spans, key=lambda span: (span.start_ns, span.name))
    ids = {span.span_id for span in known}

    def lines(parent: str | None, depth: int) -> Iterator[str]:
        for span in known:
            if span.parent_id == parent or (parent is None and span.parent_id not in ids):
                told = (span.attributes.get("tollgate.deployment"), span.attributes.get("error.type"))
                notes = " ".join(str(each) for each in told if each) if span.kind == "CLIENT" else ""
                yield f"{'  ' * depth}{span.name} [{span.kind}] {notes}".rstrip()
                yield from lines(span.span_id, depth + 1)

    return "\n".join(lines(None, 0))


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        assert self.headers["content-type"] == "application/x-protobuf"
        self.server.collected.raw += body
        if self.path == "/v1/traces":
            self.server.collected.spans += _spans(ExportTraceServiceRequest.FromString(body))
        elif self.path == "/v1/metrics":
            _add_metrics(ExportMetricsServiceRequest.FromString(body), self.server.collected.metrics)
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


def _spans(request: Any) -> Iterator[Told]:
    for resource in request.resource_spans:
        service = _attributes(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Told(
                    name=span.name,
                    kind=WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    is_error=span.status.code == span.status.STATUS_CODE_ERROR,
                    attributes=_attributes(span.attributes),
                    service=service,
                )


def _add_metrics(request: Any, metrics: dict[str, list[dict[str, Any]]]) -> None:
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                points = getattr(metric, metric.WhichOneof("data")).data_points
                metrics.setdefault(metric.name, []).extend(_attributes(point.attributes) for point in points)


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    name = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if name == "array_value" else getattr(value, name)
