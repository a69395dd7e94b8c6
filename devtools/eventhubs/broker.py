"""What an Event Hub promises, without a wire: partitions only grow, keep their order, and never forget an accepted send.

A send is written to the data file (when there is one) before it is stored, in a single write handed to the operating
system: a process killed at any moment loses nothing that it acknowledged. Reader rules follow
https://learn.microsoft.com/azure/event-hubs/event-processor-balance-partition-load and "Receiver epoch".
"""

import bisect
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from azure.eventhub._buffered_producer._partition_resolver import PartitionResolver
from azure.eventhub._pyamqp.types import TYPE, VALUE, AMQPTypes

from devtools.eventhubs.messages import Sections, annotate, unpack

MAX_READERS_PER_GROUP = 5
_SELECTOR = re.compile(r"amqp\.annotation\.x-opt-(offset|sequence-number|enqueued-time) (>=?) '(.*)'")


class Refused(Exception):  # noqa: N818 - an answer of the service, not a failure of it
    """The service's answer no: an AMQP error condition and its description."""

    def __init__(self, condition: str, description: str) -> None:
        super().__init__(f"{condition}: {description}")
        self.condition, self.description = condition, description


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One event as stored. `enqueued_ms` is Unix time in milliseconds; `wire` is the message as receivers get it."""

    partition: str
    sequence_number: int
    offset: str
    enqueued_ms: int
    partition_key: str | None
    body: bytes
    properties: Mapping[str, object]
    wire: bytes = field(repr=False)

    @property
    def enqueued_time(self) -> datetime:
        """The time the event was accepted, in UTC."""
        return datetime.fromtimestamp(self.enqueued_ms / 1000, UTC)


@dataclass(eq=False, slots=True, kw_only=True)
class Reader:
    """A receiver attached to one partition: its place in it, and how to reach the receiver."""

    group: str
    epoch: int | None
    cursor: int
    wake: Callable[[], None]
    evict: Callable[[Refused], None]


class Partition:
    """An ordered, ever-growing list of events and the readers attached to it."""

    def __init__(self, partition_id: str) -> None:
        self.id = partition_id
        self.events: list[StoredEvent] = []
        self.readers: list[Reader] = []
        self._size = 0

    def append(self, events: list[Sections], partition_key: str | None, enqueued_ms: int) -> None:
        """Store events; sequence numbers count events, offsets count bytes."""
        for event in events:
            sequence_number, offset = len(self.events), str(self._size)
            annotations = {
                b"x-opt-sequence-number": {TYPE: AMQPTypes.long, VALUE: sequence_number},
                b"x-opt-offset": {TYPE: AMQPTypes.string, VALUE: offset},
                b"x-opt-enqueued-time": {TYPE: AMQPTypes.timestamp, VALUE: enqueued_ms},
            }
            if partition_key is not None and event.partition_key is None:
                annotations[b"x-opt-partition-key"] = {TYPE: AMQPTypes.string, VALUE: partition_key}
            stored = StoredEvent(
                partition=self.id,
                sequence_number=sequence_number,
                offset=offset,
                enqueued_ms=enqueued_ms,
                partition_key=event.partition_key or partition_key,
                body=event.body,
                properties=event.properties,
                wire=annotate(event, annotations),
            )
            self.events.append(stored)
            self._size += len(stored.wire)

    def position(self, selector: str | None) -> int:
        """The index of the first event that a selector filter lets through; None means from the start."""
        if selector is None:
            return 0
        if not (match := _SELECTOR.fullmatch(selector)):
            raise Refused("amqp:invalid-field", f"unsupported selector: {selector}")
        kind, operator, value = match.groups()
        if value == "@latest":
            return len(self.events)
        keys: dict[str, Callable[[StoredEvent], int]] = {
            "offset": lambda event: int(event.offset),
            "sequence-number": lambda event: event.sequence_number,
            "enqueued-time": lambda event: event.enqueued_ms,
        }
        find = bisect.bisect_left if operator == ">=" else bisect.bisect_right
        return find(self.events, int(value), key=keys[kind])

    def attach(self, reader: Reader) -> None:
        """Admit a reader: a higher or equal epoch evicts its group's others; a lower one or none is refused."""
        rivals = [rival for rival in self.readers if rival.group == reader.group]
        highest = max((rival.epoch for rival in rivals if rival.epoch is not None), default=None)
        if highest is not None and (reader.epoch is None or reader.epoch < highest):
            raise Refused(
                "amqp:link:stolen", f"a receiver with epoch {highest} already exists, yours is {reader.epoch}"
            )
        if reader.epoch is not None:
            for rival in rivals:
                self.readers.remove(rival)
                rival.evict(Refused("amqp:link:stolen", f"new receiver with epoch {reader.epoch} was created"))
        elif len(rivals) >= MAX_READERS_PER_GROUP:
            raise Refused("amqp:resource-limit-exceeded", "5 receivers per partition and consumer group are allowed")
        self.readers.append(reader)

    def detach(self, reader: Reader) -> None:
        """Forget a reader; one already evicted is no error."""
        if reader in self.readers:
            self.readers.remove(reader)


class Hub:
    """A named set of partitions and the rule that chooses one for each send."""

    def __init__(self, name: str, partition_count: int) -> None:
        self.name = name
        self.created_ms = _now_ms()
        self.partitions = {str(index): Partition(str(index)) for index in range(partition_count)}
        # The SDK's buffered producer uses this too: it is the service's own hash.
        self._resolver = PartitionResolver(list(self.partitions))
        self._turn = 0

    def partition(self, partition_id: str) -> Partition:
        """One partition. Raises Refused as the service does when there is none."""
        if partition_id not in self.partitions:
            text = f"The specified partition is invalid: it should be between 0 and {len(self.partitions) - 1}"
            raise Refused("com.microsoft:argument-out-of-range", text)
        return self.partitions[partition_id]

    def choose(self, partition_key: str | None) -> Partition:
        """The partition of a key, or the next one in turn."""
        if partition_key is not None:
            return self.partitions[self._resolver.get_partition_id_by_partition_key(partition_key)]
        self._turn += 1
        return self.partitions[str((self._turn - 1) % len(self.partitions))]


class _Send(msgspec.Struct, frozen=True, array_like=True):
    """One accepted send, as the data file keeps it."""

    hub: str
    partition: str
    enqueued_ms: int
    message_format: int
    payload: bytes


class Broker:
    """The hubs of a namespace and, optionally, the file that survives the process."""

    def __init__(self, hubs: Mapping[str, int], data: Path | None = None) -> None:
        self.hubs = {name.lower(): Hub(name, count) for name, count in hubs.items()}
        self._file = data.open("a+b", buffering=0) if data else None
        self.watchers: set[Callable[[], None]] = set()  # called after every send
        self._last_ms = 0
        self._replay()

    def close(self) -> None:
        """Close the data file."""
        if self._file:
            self._file.close()

    def hub(self, name: str) -> Hub:
        """A hub by its case-insensitive name. Raises Refused (amqp:not-found)."""
        if name.lower() not in self.hubs:
            raise Refused("amqp:not-found", f"The messaging entity '{name}' could not be found.")
        return self.hubs[name.lower()]

    def send(self, hub: Hub, partition_id: str | None, payload: bytes, message_format: int) -> None:
        """Store one transfer (an event or a batch, always in one partition) and wake that partition's readers."""
        partition_key, events = unpack(payload, message_format)
        partition = hub.partition(partition_id) if partition_id is not None else hub.choose(partition_key)
        self._last_ms = max(_now_ms(), self._last_ms)
        if self._file:
            record = msgspec.msgpack.encode(_Send(hub.name, partition.id, self._last_ms, message_format, payload))
            self._file.write(len(record).to_bytes(4, "big") + record)
        partition.append(events, partition_key, self._last_ms)
        for wake in [*(reader.wake for reader in partition.readers), *self.watchers]:
            wake()

    def _replay(self) -> None:
        """Read the data file back; a record that a kill cut short was never acknowledged and is dropped."""
        if not self._file:
            return
        self._file.seek(0)
        content, start = self._file.read(), 0
        while len(record := content[start + 4 : (end := start + 4 + int.from_bytes(content[start : start + 4]))]):
            if end > len(content):
                break
            send = msgspec.msgpack.decode(record, type=_Send)
            key, events = unpack(send.payload, send.message_format)
            self.hub(send.hub).partition(send.partition).append(events, key, send.enqueued_ms)
            self._last_ms, start = send.enqueued_ms, end
        self._file.truncate(start)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
