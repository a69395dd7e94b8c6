"""`GET /health`: whether calls can be served, and if not, why; and how fresh what they are judged by is."""

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response

from functions.web import json_response
from shared import wiring
from shared.core.errors import NotReady

blueprint = func.Blueprint()


@blueprint.route(route="health", methods=["GET"])
async def health(req: Request) -> Response:  # noqa: ARG001 - the binding wants it
    """200 `{"status": "ready", "configuration", "clients"}`, or 503 with `problems`.

    `configuration` is a sentence; `clients` says how old the list of clients is and why it is not newer.
    """
    try:
        parts = await wiring.services()
    except NotReady as error:
        return json_response({"status": "not_ready", "problems": (error.message,)}, status=503)
    if not await parts.shelf.is_reachable():
        return json_response(
            {"status": "not_ready", "problems": ("The storage account cannot be reached.",)}, status=503
        )
    details = {"configuration": parts.directory.source.status.summary, "clients": parts.directory.status()}
    if parts.configuration is None:
        return json_response({"status": "not_ready", "problems": parts.problems, **details}, status=503)
    return json_response({"status": "ready", **details})
