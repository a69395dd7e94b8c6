"""`GET /health`: the process answers. `GET /health/ready`: it can serve calls, and if not, why. Both for probes, with no key."""

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response

from functions.web import json_response
from shared import wiring
from shared.core.errors import NotReady
from shared.readiness import Status, not_ready

blueprint = func.Blueprint()


@blueprint.route(route="health", methods=["GET", "HEAD"])
async def health(req: Request) -> Response:  # noqa: ARG001 - the binding wants it
    """200 `{"status": "live"}`, whatever else is wrong: no I/O, so that a storage account that is away restarts nobody."""
    return json_response({"status": "live"})


@blueprint.route(route="health/ready", methods=["GET", "HEAD"])
async def ready(req: Request) -> Response:  # noqa: ARG001 - likewise
    """200 where calls can be served, else 503, with a shared/readiness.py `Report`."""
    try:
        report = await (await wiring.services()).readiness.report()
    except NotReady as error:
        report = not_ready(error.message)
    return json_response(report, status=503 if report.status is Status.NOT_READY else 200)
