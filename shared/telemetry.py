"""Telemetry: what the shells tell of what they do. This is nobody listening; shared/telemetry_export.py is OpenTelemetry.

Rule: off costs nothing. Nothing of OpenTelemetry is imported, and a call does no work for it. What is told are plain values,
with the span that they belong to: context variables do not reach the task that a stream is produced in.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum

from shared.core.call_record import CallRecord
from shared.core.headers import Headers
from shared.core.trace_context import TraceContext
from shared.core.tracing import Kind
from shared.settings import Settings

_NOTHING: AbstractContextManager[None] = nullcontext()


class Exporter(StrEnum):
    """Who is told."""

    OTLP = "otlp"
    APPLICATION_INSIGHTS = "application-insights"


def exporters_of(settings: Settings) -> frozenset[Exporter]:
    """Who is to be told. None: telemetry is off."""
    if settings.telemetry_disabled:
        return frozenset()
    named = {Exporter.OTLP: settings.otlp_endpoint, Exporter.APPLICATION_INSIGHTS: settings.application_insights}
    return frozenset(exporter for exporter, setting in named.items() if setting)


class Telemetry:
    """Off. What it is told goes nowhere."""

    def begin(self, headers: Headers) -> TraceContext | None:  # noqa: ARG002 - for those who listen
        """The span of a call with these headers; None: it has none, and the client's `traceparent` passes through."""
        return None

    def ended(self, record: CallRecord) -> None:
        """A call has ended, or was refused."""

    def step(
        self,
        name: str,  # noqa: ARG002 - likewise
        kind: Kind = Kind.INTERNAL,  # noqa: ARG002 - likewise
        *parents: TraceContext | None,  # noqa: ARG002 - likewise
    ) -> AbstractContextManager[TraceContext | None]:
        """A part of the work, for as long as the `with` block lasts: a span below each parent, or one of its own where none is
        given. It yields the first of these spans."""
        return _NOTHING

    def backlog(self, waiting: Mapping[str, int | None]) -> None:
        """How much waits to be kept, by what it is; None: not known."""

    def close(self) -> None:
        """Tells what has not been told yet."""


OFF = Telemetry()
