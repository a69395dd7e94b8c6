"""`GET /usage`: what was used. A client's key shows that client's usage, the admin key everyone's."""

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response

from functions.web import AnswerResponse, inbound, json_response
from shared import wiring
from shared.core.errors import GatewayError
from shared.core.headers import Headers
from shared.core.identity import identify, presents_admin_key
from shared.core.usage_report import parse_query, report
from shared.proxying import refusal
from shared.wiring import Services

blueprint = func.Blueprint()


@blueprint.route(route="usage", methods=["GET"])
async def usage(req: Request) -> Response:
    """The usage report; see shared/core/usage_report.py for its parameters and shape."""
    try:
        parts = await wiring.services()
        client_id = _whose(inbound(req).headers, parts) or req.query_params.get("client_id")
        query = parse_query(req.query_params, wiring.now())
        rows = parts.usage.hours(f"{query.start:%Y%m%d%H}", f"{query.end:%Y%m%d%H}", client_id)
        return json_response(report(query, [row async for row in rows]))
    except GatewayError as error:
        return AnswerResponse(refusal(error))


def _whose(headers: Headers, parts: Services) -> str | None:
    """The client whose usage may be seen; None where it is everyone's. Raises Unauthenticated."""
    if presents_admin_key(headers, parts.settings.admin_key):
        return None
    return identify(headers, parts.configuration.keys_by_id if parts.configuration else {}).id
