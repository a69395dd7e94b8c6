"""`GET /usage`: what was used, as JSON or, by Accept, as CSV; `POST /usage/reconciliation`: that beside the provider's account.

A client's key shows that client's usage, the admin key everyone's; only that reconciles.
"""

from datetime import timedelta

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response

from functions.reading import Asked, read
from functions.web import METHODS, AnswerResponse, json_response
from shared import wiring
from shared.core.errors import NotReady
from shared.core.headers import get
from shared.core.money.ledger import Span
from shared.core.reports import reconciliation as reconciling
from shared.core.reports.csv_text import csv_line
from shared.core.reports.usage_report import PARAMETERS, Figures, Report, UsageQuery, flat, parse_query
from shared.gateway.answers import Answer
from shared.usage.rows import rows_of

blueprint = func.Blueprint()


@blueprint.route(route="usage", methods=METHODS)
async def usage(req: Request) -> Response:
    """The usage report; see shared/core/reports/usage_report.py for its shape and docs/reports.md for its parameters."""
    return await read(req, _report)


async def _report(asked: Asked) -> Response:
    asked.parameters.only(*PARAMETERS)
    query = parse_query(asked.parameters, wiring.now(), asked.client_id)
    source = asked.parts.usage_rows
    watermark = await source.watermark()  # before the rows: they hold at least what it says
    report = Report(query)
    async for row in rows_of(source, query):
        report.add(row)
    if "text/csv" in (get(asked.request.headers, "accept") or ""):
        return _csv(report, query, asked.parts.currency)
    return json_response(report.page(asked.parts.currency, watermark))


def _csv(report: Report, query: UsageQuery, currency: str) -> Response:
    """All lines: a table is no place for pages."""
    names = (*query.group_by, *flat(Figures().line()), "currency")
    lines = (csv_line((*flat(line).values(), currency)) for line in report.lines())
    body = csv_line(names) + b"".join(lines)
    headers = (
        ("content-type", "text/csv; charset=utf-8"),
        ("content-disposition", f'attachment; filename="usage-{query.start:%Y%m%d}-{query.end:%Y%m%d}.csv"'),
    )
    return AnswerResponse(Answer(status=200, headers=headers, body=body))


@blueprint.route(route="usage/reconciliation", methods=METHODS)
async def reconciliation(req: Request) -> Response:
    """Our tokens beside those in the body: Azure Monitor's metrics as JSON, or a cost export as CSV."""
    return await read(req, _reconciliation, "POST")


async def _reconciliation(asked: Asked) -> Response:
    asked.only_admin()
    asked.parameters.only("tolerance_percent")
    tolerance = asked.parameters.decimal("tolerance_percent", default=1.0)
    if asked.parts.configuration is None:
        raise NotReady("The gateway's configuration is invalid; /health says why.")
    theirs = reconciling.read(b"".join([chunk async for chunk in asked.request.chunks()]))
    ours = reconciling.Ours(theirs, asked.parts.configuration)
    first, last = (f"{day:%Y%m%d}" for day in (theirs.days[0], theirs.days[-1] + timedelta(days=1)))
    async for row in asked.parts.usage_rows.rows(Span.DAY, first, last, None):
        ours.add(row)
    return json_response(reconciling.reconcile(theirs, ours.tokens, tolerance))
