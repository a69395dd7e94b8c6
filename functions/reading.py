"""What all who read usage and calls have in common: who asks, what for, and errors in OpenAI's shape."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
from azure.core.exceptions import AzureError
from azurefunctions.extensions.http.fastapi import Request, Response

from functions.web import AnswerResponse, inbound
from shared import wiring
from shared.core.calls import InboundRequest
from shared.core.clients.authorization import check_network
from shared.core.errors import GatewayError, MethodNotAllowed, NotReady, PermissionDenied
from shared.core.parameters import Parameters
from shared.gateway.answers import refusal

if TYPE_CHECKING:
    from shared.composition import Services


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request to read, of somebody who may."""

    parts: "Services"
    request: InboundRequest
    parameters: Parameters
    client_id: str | None
    """Whose usage and calls may be seen; None: everyone's."""

    def only_admin(self) -> None:
        """Raises PermissionDenied for all others."""
        if self.client_id is not None:
            raise PermissionDenied("This takes the admin key.")


async def read(req: Request, answer: Callable[[Asked], Awaitable[Response]], method: str = "GET") -> Response:
    """What `answer` says to the request, or why there is none."""
    try:
        if req.method != method:
            raise MethodNotAllowed(f"Not allowed to {req.method} on {req.url.path}. (HINT: make it {method}.)")
        parts, request = await wiring.services(), inbound(req)
        client_id = await _whose(request, parts)
        asked = Asked(parts=parts, request=request, parameters=Parameters.of(request.query), client_id=client_id)
        return await answer(asked)
    except GatewayError as error:
        return AnswerResponse(refusal(error))
    except AzureError:
        return AnswerResponse(refusal(NotReady("The gateway's storage account cannot be reached; try again later.")))


async def _whose(request: InboundRequest, parts: "Services") -> str | None:
    """The client whose usage may be seen; None where it is everyone's. Raises Unauthenticated, PermissionDenied."""
    if await parts.identity.is_admin(request.headers, parts.configuration):
        return None
    if parts.configuration is None:
        raise NotReady("The gateway's configuration is invalid; /health/ready says why.")
    client = await parts.identity.client_of(request.headers, parts.configuration)
    check_network(client, request.caller_ip)
    return client.id
