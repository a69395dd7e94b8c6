"""The clients: they call as planned, hang up as planned, and note what they were told."""

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec

from devtools.chaos.plan import Call

_LONGEST_S = 90.0
_TAIL = 2000
_PAUSE_S = 1.0


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a client knows of its call. No status: it never got a status line."""

    call: Call
    began: datetime
    ended: datetime
    status: int | None = None
    call_id: str | None = None
    complete: bool = False
    """A success, to its last byte."""
    hung_up: bool = False
    gave_up: bool = False
    """It waited for longer than it would."""
    unrecorded: bool = False
    """It was told that the call was served but not recorded."""
    error: str | None = None


class Teller:
    """One call under way."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._began = datetime.now(UTC)
        self._status: int | None = None
        self._call_id: str | None = None
        self._tail = b""
        self._hung_up = self._whole = self._gave_up = False

    async def ask(self, http: httpx.AsyncClient, key: str) -> Told:
        """Makes the call. A client that finds nobody listening tries again, for it has not called anyone yet."""
        error = None
        try:
            async with asyncio.timeout(_LONGEST_S):
                while not await self._connected(http, key):  # noqa: ASYNC110 - somebody will listen again
                    await asyncio.sleep(0.2)
        except (httpx.HTTPError, TimeoutError) as failure:
            error = repr(failure)
            self._gave_up = isinstance(failure, TimeoutError | httpx.TimeoutException)
        if self._status in (429, 502, 503):
            await asyncio.sleep(_PAUSE_S)  # as a client would, and so that an outage does not use up all calls
        return self._told(error)

    async def _connected(self, http: httpx.AsyncClient, key: str) -> bool:
        leaving = asyncio.timeout(self._call.leaves_after_s)
        try:
            with contextlib.suppress(_HungUp):
                async with leaving:
                    await self._exchange(http, key)
        except httpx.ConnectError:
            return False
        except TimeoutError:
            if not leaving.expired():
                raise
            self._hung_up = True
        return True

    async def _exchange(self, http: httpx.AsyncClient, key: str) -> None:
        call = self._call
        headers = {"authorization": f"Bearer {key}", "x-ms-client-request-id": call.request_id, **call.hints}
        size = 0
        async with http.stream("POST", f"/{call.path}", json=body_of(call), headers=headers) as answer:
            self._status, self._call_id = answer.status_code, answer.headers.get("x-tollgate-call-id")
            async for chunk in answer.aiter_bytes():
                self._tail = (self._tail + chunk)[-_TAIL:]
                size += len(chunk)
                if call.leaves_after_bytes is not None and size >= call.leaves_after_bytes:
                    self._hung_up = True
                    raise _HungUp
        self._whole = True

    def _told(self, error: str | None) -> Told:
        ends = b"data: [DONE]\n\n" in self._tail or b"event: response.completed" in self._tail
        ended_well = self._status == 200 and self._whole and (not self._call.stream or ends)
        return Told(
            call=self._call,
            began=self._began,
            ended=datetime.now(UTC),
            status=self._status,
            call_id=self._call_id,
            complete=ended_well,
            hung_up=self._hung_up,
            gave_up=self._gave_up,
            unrecorded=b"could not be recorded" in self._tail,
            error=error or (None if ended_well else self._tail[-200:].decode(errors="replace")),
        )


class _HungUp(Exception):
    """The client has had enough."""


def body_of(call: Call) -> Mapping[str, Any]:
    """The request body."""
    text = f"{call.request_id} " + "word " * (call.prompt_bytes // 5)
    return {**call.fields, call.prompt: [{"role": "user", "content": text}] if call.prompt == "messages" else text}
