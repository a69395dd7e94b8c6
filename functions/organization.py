"""`/v1/organization/...`: usage and costs in the shape of OpenAI's organisation API; see shared/core/reports/organization.py.

A client's key shows that client's own, the admin key everyone's. Nothing below this path is ever forwarded: an upstream's
organisation is none of its callers' business.
"""

import re

from azurefunctions.extensions.http.fastapi import Request, Response

from functions.reading import Asked, read
from functions.web import AnswerResponse
from shared import wiring
from shared.core.reports.organization import Buckets, encode, parse
from shared.gateway.answers import Answer
from shared.usage.rows import rows_of

_PATH = re.compile(rb"/(?:v1|openai|openai/v1)/organization(?:/(?P<rest>.*))?", re.IGNORECASE | re.DOTALL)


def concerns(req: Request) -> bool:
    """Whether the request is one of these, whichever way the URL is written."""
    return _PATH.fullmatch(req.scope["raw_path"]) is not None


async def organization(req: Request) -> Response:
    """The answer to such a request."""
    return await read(req, _answer)


async def _answer(request: Asked) -> Response:
    found = _PATH.fullmatch(request.request.path.encode("latin-1"))
    path = (found["rest"] if found and found["rest"] else b"").decode("latin-1").rstrip("/")
    asked = parse(path, request.parameters, wiring.now(), request.client_id)
    buckets = Buckets(asked, request.parts.prices)
    async for row in rows_of(request.parts.usage_rows, asked.query):
        buckets.add(row)
    headers = (("content-type", "application/json"),)
    return AnswerResponse(Answer(status=200, headers=headers, body=encode(buckets.page())))
