"""Upstreams and their deployments: reached with the gateway's own requests, and called only where that is wanted.

Rule: whether an upstream takes our credential is asked for nothing, by its list of models; a call is of one token, and billed.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec

from shared.core.api.upstream_requests import upstream_request
from shared.core.call_ids import mint
from shared.core.calls import Call, InboundRequest, begun, routed, understood
from shared.core.configuration import Client, Target, UpstreamAuth
from shared.core.errors import GatewayError
from shared.credentials import UNIDENTIFIED, Credentials
from shared.doctor.findings import Examined, Finding, error, ok, warning
from shared.gateway.upstream import UpstreamError, Upstreams

_PATIENCE_S = 30.0
_AT_ONCE = 8
_NOT_CALLED = ("image", "dall-e", "whisper", "transcribe", "tts", "realtime", "audio", "moderation", "sora")
"""In names of models whose smallest call is no token."""
_NEW_NAME = "max_completion_tokens"


async def upstreams(examined: Examined) -> Sequence[Finding]:
    """Whether each upstream can be reached and takes our credential."""
    if examined.configuration is None:
        return ()
    targets = [target for target in examined.configuration.home.targets if target.upstream.url]
    return await _each(examined, targets, _reached)


async def deployments(examined: Examined) -> Sequence[Finding]:
    """Whether each deployment answers a call of one token. Only where calls are wanted."""
    if examined.configuration is None or not examined.calls:
        return ()
    pools = examined.configuration.pools
    targets = {target.deployment.name: target for pool in pools.values() for target in pool.targets}
    return await _each(examined, [*targets.values()], _called)


class _Asking(msgspec.Struct, frozen=True, kw_only=True):
    """How upstreams are asked: as the gateway asks them."""

    upstreams: Upstreams
    credentials: Credentials
    examined: Examined

    async def ask(self, target: Target, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """The status and the beginning of the answer. A body makes it a POST. Raises UpstreamError, GatewayError."""
        call = self._call(path, body)
        credential = await self.credentials.current(target.upstream)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                response = await self.upstreams.send(upstream_request(call, target, credential))
                try:
                    return response.status, b"".join([chunk async for chunk in response.chunks()])
                finally:
                    await response.close()
        except TimeoutError as late:
            raise UpstreamError(f"no answer within {_PATIENCE_S:.0f} s", sent=True) from late

    def _call(self, path: str, body: bytes) -> Call:
        async def chunks() -> AsyncIterator[bytes]:
            yield body

        async def is_gone() -> bool:
            return False

        opened_at = self.examined.now()
        request = InboundRequest(
            method="POST" if body else "GET",
            path=path,
            query="",
            headers=(("content-type", "application/json"),) if body else (),
            caller_ip=None,
            chunks=chunks,
            is_gone=is_gone,
        )
        call_id = mint(opened_at, secrets.token_bytes(10))
        return understood(routed(begun(call_id, opened_at, Client(id="doctor"), request)), body)


async def _each(
    examined: Examined, targets: Sequence[Target], look: Callable[[_Asking, Target], Awaitable[Finding]]
) -> Sequence[Finding]:
    """What `look` finds of each target, a few at once."""
    asking = _Asking(upstreams=Upstreams(examined.settings), credentials=Credentials(examined.now), examined=examined)
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def one(target: Target) -> Finding:
        async with at_once:
            return await look(asking, target)

    try:
        return await asyncio.gather(*map(one, targets))
    finally:
        await asking.upstreams.close()
        await asking.credentials.close()


async def _reached(asking: _Asking, target: Target) -> Finding:
    name = f"The upstream '{target.upstream.name}'"
    try:
        status, _ = await asking.ask(target, "/v1/models")
    except UpstreamError as failure:
        return _away(name, target, failure)
    if status in (401, 403):
        return _refused(name, target, status)
    if status >= 500:
        return warning(f"{name} answers {status}.", "Look at its state of service.")
    return ok(f"{name} is there and takes our credential.")


async def _called(asking: _Asking, target: Target) -> Finding:
    name = f"The deployment '{target.deployment.name}'"
    path, body = _smallest_call(target.deployment.model)
    if not body:
        return ok(f"{name} was not called: the smallest call of its kind is no token.")
    try:
        status, answer = await asking.ask(target, path, body)
        if status == 400 and _NEW_NAME.encode() in answer:  # an older model, or api-version
            status, answer = await asking.ask(target, path, body.replace(_NEW_NAME.encode(), b"max_tokens"))
    except UpstreamError as failure:
        return _away(name, target, failure)
    except GatewayError as failure:
        return error(f"{name} cannot be asked: {failure.message}", "Look at its row in [[deployments]].")
    return _answered(name, target, status)


def _answered(name: str, target: Target, status: int) -> Finding:
    if status < 300:
        return ok(f"{name} answers.")
    if status in (401, 403):
        return _refused(name, target, status)
    if status == 404:
        called = target.deployment.deployment
        return error(
            f"{name} is not there: '{target.upstream.name}' knows no '{called}'.",
            "Set `deployment` to its name in the resource, which need not be the model's.",
        )
    if status == 429:
        return warning(
            f"{name} is there, and at its limit now.", "Raise its quota, or add a deployment to fail over to."
        )
    return warning(f"{name} answers {status} to a call of one token.", "Call it yourself and read why.")


def _refused(name: str, target: Target, status: int) -> Finding:
    upstream = target.upstream
    if upstream.auth is UpstreamAuth.IDENTITY:
        remedy = f"Give the app's identity the role Cognitive Services OpenAI User on '{upstream.name}'; it takes some minutes."
    else:
        remedy = f"Look at the key of '{upstream.name}', and at the setting that holds it."
    return error(f"{name} refuses our credential with {status}.", f"{remedy} A resource's firewall answers so too.")


def _away(name: str, target: Target, failure: UpstreamError) -> Finding:
    if failure.reason.startswith(UNIDENTIFIED):
        return error(
            f"{name} is to be shown the app's identity, and there is none here: {failure.reason.rstrip('.')}.",
            "In Azure give the app a managed identity (AZURE_CLIENT_ID names a user-assigned one); elsewhere `az login`.",
        )
    return error(
        f"{name} cannot be reached: {failure.reason.rstrip('.')}.",
        f"Look at `url` of '{target.upstream.name}', its DNS, and whether this machine is in its network.",
    )


def _smallest_call(model: str) -> tuple[str, bytes]:
    """Path and body of a call of one token; no body where there is none such."""
    if any(word in model.lower() for word in _NOT_CALLED):
        return "", b""
    if "embedding" in model.lower():
        return "/v1/embeddings", msgspec.json.encode({"model": model, "input": "x"})
    messages = [{"role": "user", "content": "x"}]
    return "/v1/chat/completions", msgspec.json.encode({"model": model, "messages": messages, _NEW_NAME: 1})
