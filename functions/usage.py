"""`GET /usage`: what was used. A client's key shows that client's usage, the admin key everyone's."""

import azure.functions as func
from azure.core.exceptions import AzureError
from azurefunctions.extensions.http.fastapi import Request, Response

from functions.web import METHODS, AnswerResponse, inbound, json_response
from shared import wiring
from shared.core.authorization import check_network
from shared.core.calls import InboundRequest
from shared.core.errors import GatewayError, MethodNotAllowed, NotReady
from shared.core.usage_report import parse_query, report
from shared.proxying import refusal
from shared.wiring import Services

blueprint = func.Blueprint()


@blueprint.route(route="usage", methods=METHODS)
async def usage(req: Request) -> Response:
    """The usage report; see shared/core/usage_report.py for its parameters and shape."""
    try:
        if req.method != "GET":
            raise MethodNotAllowed(f"Not allowed to {req.method} on /usage. (HINT: make it GET.)")
        parts = await wiring.services()
        client_id = await whose(inbound(req), parts) or req.query_params.get("client_id")
        query = parse_query(req.query_params, wiring.now())
        rows = parts.usage.hours(f"{query.start:%Y%m%d%H}", f"{query.end:%Y%m%d%H}", client_id)
        return json_response(report(query, [row async for row in rows]))
    except GatewayError as error:
        return AnswerResponse(refusal(error))
    except AzureError:
        return AnswerResponse(refusal(NotReady("The gateway's storage account cannot be reached; try again later.")))


async def whose(request: InboundRequest, parts: Services) -> str | None:
    """The client whose usage may be seen; None where it is everyone's. Raises Unauthenticated, PermissionDenied."""
    if await parts.identity.is_admin(request.headers, parts.configuration):
        return None
    if parts.configuration is None:
        raise NotReady("The gateway's configuration is invalid; /health says why.")
    client = await parts.identity.client_of(request.headers, parts.configuration)
    check_network(client, request.caller_ip)
    return client.id
