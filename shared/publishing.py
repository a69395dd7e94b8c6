"""Group commit: events of many calls share one send.

Rule: `opened` and `closed` return when the event is durable. While one send is under way the next ones gather, so the
cost of a send is shared by as many calls as are waiting for it, and a lone call waits for nobody.
"""

import asyncio

from azure.core.exceptions import AzureError

from shared.core.archive import ArchivedCall
from shared.core.call_record import CallRecord
from shared.core.events import Body, Closed, Opened, encode, pack
from shared.sinks.archive import Archive
from shared.transports import Transport, TransportDown


class Publisher:
    """One per process; used from one event loop."""

    def __init__(self, transport: Transport, archive: Archive) -> None:
        self._transport = transport
        self._archive = archive
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def opened(self, record: CallRecord) -> None:
        """Tells that a call was accepted. Raises TransportDown where that may not have been kept."""
        await self._publish(encode(Opened(record=record)))

    async def closed(self, call: ArchivedCall) -> None:
        """Tells that a call has ended. Raises TransportDown where that may not have been kept.

        A call too large for one message goes into the archive here, and only its record travels (the claim check).
        """
        line = encode(Closed(record=call.record, request=Body.of(call.request), response=Body.of(call.response)))
        if len(line) > self._transport.max_message_bytes:
            try:
                await self._archive.put(call)
            except AzureError as error:
                raise TransportDown(f"archive: {error}") from error
            line = encode(Closed(record=call.record))
        await self._publish(line)

    async def _publish(self, line: bytes) -> None:
        sent = asyncio.get_running_loop().create_future()
        self._waiting.append((line, sent))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_waiting())
        await sent

    async def _send_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await self._transport.send(pack((line for line, _ in batch), self._transport.max_message_bytes))
            except TransportDown as error:
                failure: Exception | None = error
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
                failure = TransportDown(f"unexpected: {error!r}")
            else:
                failure = None
            for _, sent in batch:
                _settle(sent, failure)


def _settle(sent: asyncio.Future[None], failure: Exception | None) -> None:
    if sent.done():
        return  # whoever waited was cancelled
    if failure:
        sent.set_exception(failure)
    else:
        sent.set_result(None)
