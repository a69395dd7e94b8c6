"""`GET /usage`: what was used. A client's key shows that client's usage, the admin key everyone's."""

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response

from functions.reading import Asked, read
from functions.web import METHODS, json_response
from shared import wiring
from shared.core.usage_report import parse_query, report

blueprint = func.Blueprint()


@blueprint.route(route="usage", methods=METHODS)
async def usage(req: Request) -> Response:
    """The usage report; see shared/core/usage_report.py for its parameters and shape."""
    return await read(req, _report)


async def _report(asked: Asked) -> Response:
    client_id = asked.client_id or asked.parameters.text("client_id")
    query = parse_query(asked.parameters, wiring.now())
    rows = asked.parts.usage.hours(f"{query.start:%Y%m%d%H}", f"{query.end:%Y%m%d%H}", client_id)
    return json_response(report(query, [row async for row in rows]))
