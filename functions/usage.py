"""`GET /usage`: what was used, as JSON or, by Accept, as CSV.

A client's key shows that client's usage, the admin key everyone's.
"""

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response

from functions.reading import Asked, read
from functions.web import METHODS, AnswerResponse, json_response
from shared import wiring
from shared.answers import Answer
from shared.core.csv_text import csv_line
from shared.core.headers import get
from shared.core.usage_report import PARAMETERS, Figures, Report, UsageQuery, flat, parse_query
from shared.usage_rows import rows_of

blueprint = func.Blueprint()


@blueprint.route(route="usage", methods=METHODS)
async def usage(req: Request) -> Response:
    """The usage report; see shared/core/usage_report.py for its shape and docs/reports.md for its parameters."""
    return await read(req, _report)


async def _report(asked: Asked) -> Response:
    asked.parameters.only(*PARAMETERS)
    query = parse_query(asked.parameters, wiring.now(), asked.client_id)
    source = asked.parts.usage
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
