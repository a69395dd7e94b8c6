"""Storage queue triggers. The rule: a message leaves its queue by success or for the poison queue, and no other way.

Follows QueueListener and QueueProcessor of Azure/azure-webjobs-sdk: messages are taken for ten minutes (renewed while
the function runs), so after a crash they come back only then; host.json's visibilityTimeout is how long a *failed*
message waits. `lease_s` shortens the ten minutes for tests. One difference: the real host waits until somebody creates
a missing queue, this one creates it and says so.
https://learn.microsoft.com/azure/azure-functions/functions-bindings-storage-queue
"""

import asyncio
import base64
import binascii
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.queue.aio import QueueClient

from devtools.devhost.config import Backoff, QueueOptions, connection_string, resolve
from devtools.devhost.invocations import Input, Invocations
from devtools.devhost.listener import pause
from devtools.devhost.runtime import Function, TypedData, json_data

LEASE_S = 600.0
_SHORTEST_POLL_S = 0.1
_log = logging.getLogger("devhost")


class QueueListener:
    """Runs one function for every message of its queue."""

    def __init__(
        self,
        function: Function,
        settings: Mapping[str, str],
        invocations: Invocations,
        options: QueueOptions,
        lease_s: float,
    ) -> None:
        """Raises ConfigError."""
        self.function = function
        self._invocations, self._options, self._lease_s = invocations, options, lease_s
        self._name = resolve(function.trigger["queueName"], settings).lower()
        self._connection = connection_string(function.trigger.get("connection", ""), settings)
        self._binary = str(function.trigger.get("dataType", "")).lower() == "binary"

    async def run(self, stopping: asyncio.Event) -> None:
        """See Listener."""
        async with (
            self._client(self._name) as queue,
            self._client(f"{self._name}-poison") as poison,
        ):
            backoff = Backoff(_SHORTEST_POLL_S, self._options.max_polling_interval_s)
            running: set[asyncio.Task[None]] = set()
            while not stopping.is_set():
                messages = await self._take(queue)
                for message in messages:
                    running.add(asyncio.create_task(self._process(queue, poison, message)))
                if messages:
                    backoff.reset()
                else:
                    await pause(stopping, backoff.next())
                while len(running) > self._options.new_batch_threshold:
                    _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                running = {task for task in running if not task.done()}
            await asyncio.gather(*running)

    def manual_input(self, text: str) -> Input:
        """See Listener: a message of that text which is in no queue."""
        return self._input(text.encode(), {}, "This function was programmatically called via the host APIs.")

    def _client(self, name: str) -> QueueClient:
        # The SDK's own policy would wait for more than a minute before it admits an outage.
        return QueueClient.from_connection_string(
            self._connection, name, initial_backoff=1, increment_base=1, retry_total=3
        )

    async def _take(self, queue: QueueClient) -> list[Any]:
        size = self._options.batch_size
        try:
            pages = queue.receive_messages(
                messages_per_page=size, max_messages=size, visibility_timeout=round(self._lease_s)
            )
            return [message async for message in pages]
        except ResourceNotFoundError:
            await queue.create_queue()
            _log.warning("Created the queue '%s'; the real host would wait for somebody to create it", self._name)
        except AzureError as error:
            _log.warning("The queue '%s' cannot be read, trying again: %s", self._name, error.message)
        return []

    async def _process(self, queue: QueueClient, poison: QueueClient, message: Any) -> None:
        try:
            await self._run_and_settle(queue, poison, message)
        except ResourceNotFoundError:
            _log.warning("The message %s of '%s' was settled by somebody else", message.id, self._name)
        except AzureError as error:
            _log.error("The message %s of '%s' was not settled: %s", message.id, self._name, error.message)

    async def _run_and_settle(self, queue: QueueClient, poison: QueueClient, message: Any) -> None:
        body = self._decode(message.content)
        if body is None or message.dequeue_count > self._options.max_dequeue_count:
            await self._move_to_poison(queue, poison, message)
            return
        given = self._input(body, _metadata(message, body), f"New queue message detected on '{self._name}'.")
        done = asyncio.Event()
        renewal = asyncio.create_task(self._renew(queue, message, done))
        try:
            succeeded = await self._invocations.trigger(self.function, given)
        finally:
            done.set()
            await renewal  # not cancelled: a renewal whose answer is not heard leaves us without the right to settle
        if succeeded:
            await queue.delete_message(message.id, pop_receipt=message.pop_receipt)
        elif message.dequeue_count >= self._options.max_dequeue_count:
            await self._move_to_poison(queue, poison, message)
        else:
            await queue.update_message(message, visibility_timeout=round(self._options.visibility_timeout_s))

    async def _renew(self, queue: QueueClient, message: Any, done: asyncio.Event) -> None:
        while True:
            await pause(done, self._lease_s / 2)
            if done.is_set():
                return
            try:
                updated = await queue.update_message(message, visibility_timeout=round(self._lease_s))
                message.pop_receipt = updated.pop_receipt
            except AzureError as error:
                _log.warning("The lease of the message %s was not renewed: %s", message.id, error.message)

    async def _move_to_poison(self, queue: QueueClient, poison: QueueClient, message: Any) -> None:
        _log.warning(
            "Message has reached MaxDequeueCount of %d (or cannot be decoded). Moving message to queue '%s-poison'.",
            self._options.max_dequeue_count,
            self._name,
        )
        try:
            await poison.send_message(message.content)
        except ResourceNotFoundError:
            await poison.create_queue()
            await poison.send_message(message.content)
        await queue.delete_message(message.id, pop_receipt=message.pop_receipt)

    def _decode(self, content: str) -> bytes | None:
        if not self._options.base64:
            return content.encode()
        try:
            return base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError):
            return None

    def _input(self, body: bytes, metadata: Mapping[str, TypedData], reason: str) -> Input:
        data = TypedData(bytes=body) if self._binary else TypedData(string=body.decode(errors="replace"))
        return Input(data=data, metadata=metadata, reason=reason)


def _metadata(message: Any, body: bytes) -> Mapping[str, TypedData]:
    def time(moment: datetime) -> TypedData:
        return json_data(moment.strftime("%Y-%m-%dT%H:%M:%S+00:00"))

    return {
        "QueueTrigger": TypedData(string=body.decode(errors="replace")),
        "Id": TypedData(string=message.id),
        "PopReceipt": TypedData(string=message.pop_receipt),
        "DequeueCount": json_data(message.dequeue_count),
        "ExpirationTime": time(message.expires_on),
        "InsertionTime": time(message.inserted_on),
        "NextVisibleTime": time(message.next_visible_on),
    }
