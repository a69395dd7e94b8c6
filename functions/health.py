"""`GET /health`: whether calls can be served, and if not, why."""

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response

from functions.web import json_response
from shared import wiring
from shared.core.errors import NotReady

blueprint = func.Blueprint()


@blueprint.route(route="health", methods=["GET"])
async def health(req: Request) -> Response:  # noqa: ARG001 - the binding wants it
    """200 `{"status": "ready"}`, or 503 with the problems."""
    try:
        problems = (await wiring.services()).problems
    except NotReady as error:
        problems = (error.message,)
    if problems:
        return json_response({"status": "not_ready", "problems": problems}, status=503)
    return json_response({"status": "ready"})
