"""Event Hub triggers. The rule: a checkpoint follows success or exhausted retries, and never a cancellation.

Follows PartitionProcessor and EventHubTriggerBindingStrategy of Microsoft.Azure.WebJobs.Extensions.EventHubs (in
Azure/azure-sdk-for-net): each partition is in order, batches of one partition never overlap, and a function that
fails without a retry policy has lost its batch, because the checkpoint passes it. Ownership and checkpoints are blobs
in `azure-webjobs-eventhub`, so several hosts share the partitions; ownership changes hands in seconds here, not in
minutes.
https://learn.microsoft.com/azure/azure-functions/functions-bindings-event-hubs-trigger
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from azure.core.exceptions import ResourceExistsError
from azure.eventhub import EventData, parse_connection_string
from azure.eventhub.aio import EventHubConsumerClient, PartitionContext
from azure.storage.blob.aio import ContainerClient

from devtools.devhost.config import EventHubOptions, connection_string, resolve
from devtools.devhost.invocations import Input, Invocations
from devtools.devhost.runtime import Function, TypedData, bytes_array, json_data, long_array, string_array

_CONTAINER = "azure-webjobs-eventhub"
_BALANCE_EVERY_S = 1.0
_OWNERSHIP_LASTS_S = 5.0


class EventHubListener:
    """Runs one function for the events of its hub."""

    def __init__(
        self, function: Function, settings: Mapping[str, str], invocations: Invocations, options: EventHubOptions
    ) -> None:
        """Raises ConfigError."""
        trigger = function.trigger
        self.function = function
        self._invocations, self._options = invocations, options
        self._connection = connection_string(trigger.get("connection", ""), settings)
        self._storage = connection_string("", settings)
        entity = parse_connection_string(self._connection).eventhub_name
        self._hub = entity or resolve(trigger["eventHubName"], settings)
        self._group = resolve(trigger.get("consumerGroup") or "$Default", settings)
        self._many = str(trigger.get("cardinality", "many")).lower() == "many"
        self._text = str(trigger.get("dataType", "")).lower() == "string"
        self._order: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._unchecked: defaultdict[str, int] = defaultdict(int)

    async def run(self, stopping: asyncio.Event) -> None:
        """See Listener."""
        # Here, and not above: a host on the app's own packages has it not, and apps without Event Hubs need it not.
        from azure.eventhub.extensions.checkpointstoreblobaio import BlobCheckpointStore

        container = ContainerClient.from_connection_string(self._storage, _CONTAINER)
        async with container:
            if not await container.exists():
                await _create(container)
        client = EventHubConsumerClient.from_connection_string(
            self._connection,
            self._group,
            eventhub_name=self._hub,
            checkpoint_store=BlobCheckpointStore.from_connection_string(self._storage, _CONTAINER),
            load_balancing_interval=_BALANCE_EVERY_S,
            partition_ownership_expiration_interval=_OWNERSHIP_LASTS_S,
        )
        receiving = asyncio.create_task(
            client.receive_batch(
                self._on_batch,
                max_batch_size=self._options.max_batch_size,
                prefetch=self._options.prefetch,
                starting_position="@latest" if self._options.from_end else "-1",
            )
        )
        stopped = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait((receiving, stopped), return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                receiving.result()
        finally:
            stopped.cancel()
            await client.close()
            receiving.cancel()

    def manual_input(self, text: str) -> Input:
        """See Listener: one event of that text which is in no hub."""
        event = EventData(text)
        context = {"EventHubName": self._hub, "ConsumerGroup": self._group, "PartitionId": "0"}
        reason = "This function was programmatically called via the host APIs."
        return self._input([event], context, reason)

    async def _on_batch(self, partition: PartitionContext, events: Sequence[EventData]) -> None:
        if not events:
            return
        # When the SDK gives a partition up and takes it again, the run for the old batch may still be going on.
        async with self._order[partition.partition_id]:
            context = {
                "FullyQualifiedNamespace": partition.fully_qualified_namespace,
                "EventHubName": partition.eventhub_name,
                "ConsumerGroup": partition.consumer_group,
                "PartitionId": partition.partition_id,
            }
            for dispatched in [events] if self._many else [[event] for event in events]:
                reason = f"(null) on partition {partition.partition_id}, {len(dispatched)} event(s)"
                await self._invocations.trigger_with_retries(self.function, self._input(dispatched, context, reason))
            self._unchecked[partition.partition_id] += 1
            if self._unchecked[partition.partition_id] >= self._options.checkpoint_every:
                self._unchecked[partition.partition_id] = 0
                await partition.update_checkpoint(events[-1])

    def _input(self, events: Sequence[EventData], context: Mapping[str, str], reason: str) -> Input:
        bodies = [_body(event) for event in events]
        if self._many:
            data = string_array([body.decode() for body in bodies]) if self._text else bytes_array(bodies)
            return Input(data=data, metadata=_many(events, context), reason=reason)
        data = TypedData(string=bodies[0].decode()) if self._text else TypedData(bytes=bodies[0])
        return Input(data=data, metadata=_one(events[0], context), reason=reason)


def _body(event: EventData) -> bytes:
    body = event.body
    return body if isinstance(body, bytes) else b"".join(cast("Iterable[bytes]", body))


async def _create(container: ContainerClient) -> None:
    try:
        await container.create_container()
    except ResourceExistsError:
        return  # another listener was faster


def _many(events: Sequence[EventData], context: Mapping[str, str]) -> Mapping[str, TypedData]:
    system = [_system_properties(event) for event in events]
    return {
        "PartitionContext": json_data(context),
        "PartitionKeyArray": string_array([one["PartitionKey"] for one in system]),
        "OffsetArray": string_array([one["Offset"] for one in system]),
        "SequenceNumberArray": long_array([one["SequenceNumber"] for one in system]),
        "EnqueuedTimeUtcArray": json_data([one["EnqueuedTimeUtc"] for one in system]),
        "PropertiesArray": _objects([_properties(event) for event in events]),
        "SystemPropertiesArray": _objects(system),
    }


def _one(event: EventData, context: Mapping[str, str]) -> Mapping[str, TypedData]:
    system = _system_properties(event)
    return {
        "PartitionContext": json_data(context),
        "PartitionKey": TypedData(string=system["PartitionKey"] or ""),
        "Offset": TypedData(string=system["Offset"]),
        "SequenceNumber": json_data(system["SequenceNumber"]),
        "EnqueuedTimeUtc": json_data(system["EnqueuedTimeUtc"]),
        "Properties": _objects(_properties(event)),
        "SystemProperties": _objects(system),
    }


def _system_properties(event: EventData) -> dict[str, Any]:
    moment = event.enqueued_time or datetime.now(UTC)
    key = event.partition_key
    named = {
        "SequenceNumber": event.sequence_number or 0,
        "Offset": str(event.offset or 0),
        "PartitionKey": key.decode() if key else None,
        "EnqueuedTimeUtc": moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    raw = {_text(name): value for name, value in (event.system_properties or {}).items()}
    return (
        named
        | {name: value for name, value in raw.items() if not name.startswith("x-opt-")}
        | {name: value for name, value in raw.items() if name.startswith("x-opt-") and name != "x-opt-enqueued-time"}
    )


def _properties(event: EventData) -> dict[str, Any]:
    return {_text(name): value for name, value in (event.properties or {}).items()}


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _objects(value: object) -> TypedData:
    return TypedData(json=json.dumps(value, default=_text))
