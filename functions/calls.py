"""`GET /calls`: calls by who, what, whence, when and how they ended; `GET /calls/{id}`: one call as it is archived.

A client's key shows that client's calls, the admin key everyone's.
"""

from typing import TYPE_CHECKING

import azure.functions as func
import msgspec
from azurefunctions.extensions.http.fastapi import Request, Response

from functions.reading import Asked, read
from functions.web import METHODS, json_response
from shared import wiring
from shared.core.api.completion_text import ChoiceText
from shared.core.api.prompt_text import Message
from shared.core.call_record import CallRecord
from shared.core.errors import NotFound
from shared.core.recording.archive import ArchivedCall
from shared.core.recording.conversation import conversation
from shared.core.recording.events import Body
from shared.core.reports.call_query import FIELDS, SPAN, parse_call_query

if TYPE_CHECKING:
    from shared.composition import Services

blueprint = func.Blueprint()


class CallView(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: the record, what was said in words, and both bodies as they were sent. `record.content` tells how much of
    the call was kept; of what was not kept there are no words and no bytes."""

    record: CallRecord
    prompt: tuple[Message, ...]
    completion: tuple[ChoiceText, ...]
    request: Body
    response: Body


@blueprint.route(route="calls", methods=METHODS)
async def calls(req: Request) -> Response:
    """A page of the ledger, newest first; see shared/core/reports/call_query.py for its parameters and shape."""
    return await read(req, _search)


@blueprint.route(route="calls/{call_id}", methods=METHODS)
async def call(req: Request) -> Response:
    """The call by the id that its answer carried in `x-tollgate-call-id`; 404 also where it is another client's."""
    call_id = str(req.path_params["call_id"])

    async def view(asked: Asked) -> Response:
        found = await _archived(call_id, asked.parts)
        if found is None or asked.client_id not in (None, found.record.client_id):
            raise NotFound(f"No call with the id '{call_id}' is archived.")
        return json_response(_view(found))

    return await read(req, view)


async def _search(asked: Asked) -> Response:
    asked.parameters.only(*FIELDS, *SPAN, "limit", "after")
    query = parse_call_query(asked.parameters, wiring.now(), asked.client_id)
    return json_response(await asked.parts.calls.newest(query))


def _view(found: ArchivedCall) -> CallView:
    said = conversation(found)
    return CallView(
        record=found.record,
        prompt=said.prompt,
        completion=said.completion,
        request=Body.of(found.request),
        response=Body.of(found.response),
    )


async def _archived(call_id: str, parts: "Services") -> ArchivedCall | None:
    try:
        return await parts.recorder.archive.get(call_id)
    except ValueError:  # no call id
        return None
