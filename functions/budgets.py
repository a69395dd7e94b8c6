"""`GET /usage/budgets`: how clients stand against their monthly budgets, and what the month will come to.

A client's key shows that client's budgets, the admin key everyone's.
"""

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response

from functions.reading import Asked, read
from functions.web import METHODS, json_response
from shared import wiring
from shared.core.errors import NotReady
from shared.core.reports.budgets import budgets, days_of

blueprint = func.Blueprint()


@blueprint.route(route="usage/budgets", methods=METHODS)
async def usage_budgets(req: Request) -> Response:
    """The budgets; see shared/core/reports/budgets.py for their shape."""
    return await read(req, _budgets)


async def _budgets(asked: Asked) -> Response:
    asked.parameters.only("client_id")
    parts, now = asked.parts, wiring.now()
    if parts.configuration is None:
        raise NotReady("The gateway's configuration is invalid; /health says why.")
    wanted = asked.client_id, asked.parameters.text("client_id")
    clients = [
        client
        for client in parts.configuration.clients_by_id.values()
        if all(id_ in (None, client.id) for id_ in wanted)
    ]
    watermark = await parts.usage_rows.watermark()  # before the rows: they hold at least what it says
    days = days_of(now)
    only = clients[0].id if len(clients) == 1 else None
    rows = [row async for row in parts.usage_rows.rows(days.span, days.start, days.end, only)]
    return json_response(budgets(clients, rows, parts.currency, watermark, now))
