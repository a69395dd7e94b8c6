"""`/exports/{kind}`: tables for other programs. GET streams one, POST writes it to a blob and streams how far that is.

    ledger       the calls of the ledger, as CSV
    focus        a month of usage and money, as a FOCUS 1.2 file; each day's is written to a blob by itself as well
    evaluation   a dataset for evaluations in Azure AI Foundry, as lines of JSON, or as CSV with `format=csv`

A client's key exports that client's own, the admin key everyone's; only that writes blobs.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import azure.functions as func
import msgspec
from azurefunctions.extensions.http.fastapi import Request, Response

from functions.reading import Asked, read
from functions.web import METHODS, AnswerResponse
from shared import wiring
from shared.core.errors import NotFound
from shared.core.headers import Headers
from shared.core.reports.call_query import FIELDS, SPAN, CallQuery, parse_call_query
from shared.core.reports.focus import facts_of, month_of
from shared.gateway.answers import Answer
from shared.usage.exporting import (
    Download,
    Export,
    ToBlob,
    due_months,
    evaluation_lines,
    focus_lines,
    ledger_lines,
)

if TYPE_CHECKING:
    from shared.composition import Services

blueprint = func.Blueprint()

_CSV = "text/csv; charset=utf-8"


@blueprint.route(route="exports/{kind}", methods=METHODS)
async def exports(req: Request) -> Response:
    """An export; see docs/reports.md for the parameters of each."""
    kind = str(req.path_params["kind"])

    async def download(asked: Asked) -> Response:
        export = _export(kind, asked)
        headers: Headers = (
            ("content-type", export.content_type),
            ("content-disposition", f'attachment; filename="{export.name.replace("/", "-")}"'),
        )
        return AnswerResponse(Answer(status=200, headers=headers, body=Download(export.lines)))

    async def to_blob(asked: Asked) -> Response:
        asked.only_admin()
        stream = ToBlob(asked.parts.exports, _export(kind, asked))
        return AnswerResponse(Answer(status=200, headers=(("content-type", "application/x-ndjson"),), body=stream))

    return await (read(req, to_blob, "POST") if req.method == "POST" else read(req, download))


def _export(kind: str, asked: Asked) -> Export:
    """The export of that name. Raises NotFound, BadRequest."""
    if kind not in _KINDS:
        raise NotFound(f"There is no export '{kind}'; known are {', '.join(_KINDS)}.")
    return _KINDS[kind](asked)


def _ledger(asked: Asked) -> Export:
    asked.parameters.only(*FIELDS, *SPAN)
    query = parse_call_query(asked.parameters, wiring.now(), asked.client_id)
    return Export(name=f"ledger/{_span(query)}.csv", content_type=_CSV, lines=ledger_lines(asked.parts.calls, query))


def _evaluation(asked: Asked) -> Export:
    asked.parameters.only(*FIELDS, *SPAN, "format")
    format_ = asked.parameters.chosen("format", ("jsonl", "csv"), "jsonl")
    query = parse_call_query(asked.parameters, wiring.now(), asked.client_id)
    return Export(
        name=f"evaluation/{_span(query)}.{format_}",
        content_type=_CSV if format_ == "csv" else "application/jsonl",
        lines=evaluation_lines(asked.parts.calls, asked.parts.recorder.archive, query, as_csv=format_ == "csv"),
    )


def _span(query: CallQuery) -> str:
    return f"{query.start:%Y%m%dT%H%M%SZ}-{query.end:%Y%m%dT%H%M%SZ}"


def _focus(asked: Asked) -> Export:
    asked.parameters.only("month")
    start = month_of(asked.parameters.text("month"), wiring.now())
    return _focus_export(asked.parts, start, asked.client_id)


def _focus_export(parts: "Services", start: datetime, client_id: str | None = None) -> Export:
    month = facts_of(parts.configuration, start, parts.settings.prefix)
    return Export(
        name=f"focus/{start:%Y-%m}.csv", content_type=_CSV, lines=focus_lines(parts.usage_rows, month, client_id)
    )


_KINDS = {"ledger": _ledger, "evaluation": _evaluation, "focus": _focus}


@blueprint.timer_trigger(arg_name="timer", schedule="0 15 4 * * *", run_on_startup=False)
async def export_focus(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the binding wants it
    """Writes the FOCUS file of yesterday's month, so that on the first day of a month the one of the month before is whole; and
    those of earlier months again whose usage has changed since: by calls that were told late, or by a rerate."""
    parts = await wiring.services()
    yesterday = wiring.now() - timedelta(days=1)
    for month in await due_months(parts.exports, parts.usage, f"{yesterday:%Y-%m}"):
        version = await parts.usage.version(month.replace("-", ""))  # before the rows: they are at least as new
        export = _focus_export(parts, month_of(month, yesterday))
        await parts.exports.put(msgspec.structs.replace(export, made_of=version or ""))
