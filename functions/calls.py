"""`GET /calls/{id}`: one call as it is archived. A client's key shows that client's calls, the admin key everyone's."""

import azure.functions as func
import msgspec
from azure.core.exceptions import AzureError
from azurefunctions.extensions.http.fastapi import Request, Response

from functions.usage import whose
from functions.web import METHODS, AnswerResponse, inbound, json_response
from shared import wiring
from shared.core.archive import ArchivedCall
from shared.core.call_record import CallRecord
from shared.core.errors import GatewayError, MethodNotAllowed, NotFound, NotReady
from shared.core.events import Body
from shared.proxying import refusal
from shared.wiring import Services

blueprint = func.Blueprint()


class CallView(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: the record, and both bodies as they were sent."""

    record: CallRecord
    request: Body
    response: Body


@blueprint.route(route="calls/{call_id}", methods=METHODS)
async def call(req: Request) -> Response:
    """The call by the id that its answer carried in `x-tollgate-call-id`; 404 also where it is another client's."""
    call_id = str(req.path_params["call_id"])
    try:
        if req.method != "GET":
            raise MethodNotAllowed(f"Not allowed to {req.method} on /calls/{call_id}. (HINT: make it GET.)")
        parts = await wiring.services()
        client_id = await whose(inbound(req), parts)
        found = await _archived(call_id, parts)
        if found is None or client_id not in (None, found.record.client_id):
            raise NotFound(f"No call with the id '{call_id}' is archived.")
    except GatewayError as error:
        return AnswerResponse(refusal(error))
    except AzureError:
        return AnswerResponse(refusal(NotReady("The gateway's storage account cannot be reached; try again later.")))
    return json_response(
        CallView(record=found.record, request=Body.of(found.request), response=Body.of(found.response))
    )


async def _archived(call_id: str, parts: Services) -> ArchivedCall | None:
    try:
        return await parts.recorder.archive.get(call_id)
    except ValueError:  # no call id
        return None
