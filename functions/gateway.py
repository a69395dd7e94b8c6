"""The OpenAI surface: every method on every path of the three URL styles goes to the gateway, which answers in OpenAI's way."""

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response

from functions import organization
from functions.web import METHODS, AnswerResponse, inbound
from shared import wiring
from shared.core.errors import GatewayError
from shared.gateway.answers import refusal

blueprint = func.Blueprint()


@blueprint.route(route="v1/{*path}", methods=METHODS)
async def openai_api(req: Request) -> Response:
    """`/v1/...`, as OpenAI's own."""
    return await _answer(req)


@blueprint.route(route="openai/{*path}", methods=METHODS)
async def azure_openai_api(req: Request) -> Response:
    """`/openai/deployments/{model}/...` and `/openai/v1/...`, as Azure OpenAI's."""
    return await _answer(req)


async def _answer(req: Request) -> Response:
    if organization.concerns(req):
        return await organization.organization(req)
    try:
        gateway = (await wiring.services()).gateway
    except GatewayError as error:
        return AnswerResponse(refusal(error))
    return AnswerResponse(await gateway.handle(inbound(req)))
