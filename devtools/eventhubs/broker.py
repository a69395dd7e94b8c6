"""What an Event Hub promises, without a wire: partitions only grow, keep order, and never forget an accepted send.

With a data file, a send is on its way to the operating system in one write before it is stored: a process killed at any
moment loses nothing that it acknowledged. Readers: https://learn.microsoft.com/azure/event-hubs/event-hubs-features
"""

import bisect
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
from azure.eventhub._buffered_producer import _partition_resolver

from devtools.eventhubs.amqp import APPLICATION_PROPERTIES, DATA, PARTITION_KEY, long, sections, stamp, text, timestamp
from devtools.eventhubs.amqp import unpack as unpack_transfer

MAX_READERS_PER_GROUP = 5
_SELECTOR = re.compile(r"amqp\.annotation\.x-opt-(offset|sequence-number|enqueued-time) (>=?) '(.*)'")


class Refused(Exception):
    """The service's answer no: an AMQP error condition and its description."""

    def __init__(self, condition: str, description: str) -> None:
        super().__init__(f"{condition}: {description}")
        self.condition, self.description = condition, description


@dataclass(slots=True)
class Faults:
    """What to get wrong on purpose; each counted fault shows exactly that often.

    rejected_sends: the next N sends are refused with com.microsoft:server-busy and not stored.
    lost_acks: the next N sends are stored, and the connection is dropped before the acknowledgement.
    duplicate_deliveries: the next N deliveries are repeated.
    ack_delay: seconds before each acknowledgement.
    refuse_connections: new connections are reset while this is True.
    """

    rejected_sends: int = 0
    lost_acks: int = 0
    duplicate_deliveries: int = 0
    ack_delay: float = 0.0
    refuse_connections: bool = False

    def take(self, fault: Literal["rejected_sends", "lost_acks", "duplicate_deliveries"]) -> bool:
        """Whether a counted fault is to show now; counts it down."""
        left: int = getattr(self, fault)
        setattr(self, fault, max(left - 1, 0))
        return left > 0


@dataclass(frozen=True, kw_only=True)
class StoredEvent:
    """One event as stored. `enqueued_ms`: Unix milliseconds; `wire`: the AMQP message as receivers get it."""

    partition: str
    sequence_number: int
    offset: str
    enqueued_ms: int
    partition_key: str | None
    wire: bytes = field(repr=False)

    @property
    def enqueued_time(self) -> datetime:
        """When the event was accepted (UTC)."""
        return datetime.fromtimestamp(self.enqueued_ms / 1000, UTC)

    @cached_property
    def body(self) -> bytes:
        """The data sections, joined."""
        return b"".join(value for code, value, _ in sections(self.wire) if code == DATA)

    @cached_property
    def properties(self) -> Mapping[str, Any]:
        """The application properties, strings as str."""
        maps = [value for code, value, _ in sections(self.wire) if code == APPLICATION_PROPERTIES]
        return {text(name): text(value) for found in maps for name, value in found.items()}


@dataclass(eq=False, slots=True, kw_only=True)
class Reader:
    """A receiver on one partition: `cursor` is the index of its next event, the callbacks reach its link."""

    group: str
    epoch: int | None
    cursor: int
    wake: Callable[[], None]
    evict: Callable[[Refused], None]


class Partition:
    """An ordered list of events, and the readers attached to it."""

    def __init__(self, partition_id: str) -> None:
        self.id = partition_id
        self.events: list[StoredEvent] = []
        self.readers: list[Reader] = []
        self._size = 0

    def append(self, payloads: list[bytes], partition_key: str | None, enqueued_ms: int) -> None:
        """Store events; sequence numbers count events, offsets count bytes."""
        for payload in payloads:
            sequence_number, offset = len(self.events), str(self._size)
            added: dict[str | bytes, object] = {
                b"x-opt-sequence-number": long(sequence_number),
                b"x-opt-offset": offset,
                b"x-opt-enqueued-time": timestamp(enqueued_ms),
            }
            if partition_key:
                added[PARTITION_KEY] = partition_key
            wire = stamp(payload, added)
            self._size += len(wire)
            self.events.append(
                StoredEvent(
                    partition=self.id,
                    sequence_number=sequence_number,
                    offset=offset,
                    enqueued_ms=enqueued_ms,
                    partition_key=partition_key,
                    wire=wire,
                )
            )

    def position(self, selector: str | None) -> int:
        """The index of the first event that a selector lets through. Raises Refused for one it cannot read."""
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
        """Admit a reader. An epoch evicts the others of its group, unless one is higher: then Refused is raised."""
        rivals = [rival for rival in self.readers if rival.group == reader.group]
        highest = max((rival.epoch for rival in rivals if rival.epoch is not None), default=None)
        if highest is not None and (reader.epoch is None or reader.epoch < highest):
            raise Refused("amqp:link:stolen", f"a receiver with epoch {highest} exists, yours has {reader.epoch}")
        if reader.epoch is not None:
            for rival in rivals:
                rival.evict(Refused("amqp:link:stolen", f"a receiver with epoch {reader.epoch} was created"))
        elif len(rivals) >= MAX_READERS_PER_GROUP:
            raise Refused("amqp:resource-limit-exceeded", "a consumer group may have 5 receivers on a partition")
        self.readers.append(reader)


class Hub:
    """Partitions under a name, and the rule that chooses one for each send."""

    def __init__(self, name: str, partition_count: int) -> None:
        self.name = name
        self.created_ms = _now_ms()
        self.partitions = {str(index): Partition(str(index)) for index in range(partition_count)}
        # The SDK hashes keys with this for its buffered producer: it is the service's own hash.
        resolver: Any = _partition_resolver.PartitionResolver
        self._partition_of_key: Callable[[str], str] = resolver(list(self.partitions)).get_partition_id_by_partition_key
        self._turn = 0

    def partition(self, partition_id: str) -> Partition:
        """One partition. Raises Refused when there is none of that id."""
        if partition_id not in self.partitions:
            last = len(self.partitions) - 1
            raise Refused("com.microsoft:argument-out-of-range", f"the partition should be between 0 and {last}")
        return self.partitions[partition_id]

    def choose(self, partition_key: str | None) -> Partition:
        """The partition of a key or, without one, the next in turn."""
        if partition_key:
            return self.partitions[self._partition_of_key(partition_key)]
        self._turn += 1
        return self.partitions[str((self._turn - 1) % len(self.partitions))]


class _Send(msgspec.Struct, frozen=True, array_like=True):
    """One accepted transfer in the data file."""

    hub: str
    partition: str
    enqueued_ms: int
    message_format: int
    payload: bytes


class Broker:
    """The hubs of a namespace, the faults they show, and the file (if any) that outlives the process."""

    def __init__(self, hubs: Mapping[str, int], data: Path | None = None) -> None:
        self.hubs = {name.lower(): Hub(name, count) for name, count in hubs.items()}
        self.faults = Faults()
        self.watchers: set[Callable[[], None]] = set()  # called after each send and each attach
        self._last_ms = 0
        self._file = data.open("a+b", buffering=0) if data else None
        self._replay()

    def close(self) -> None:
        """Close the data file."""
        if self._file:
            self._file.close()

    def hub(self, name: str) -> Hub:
        """A hub by name, in any case. Raises Refused (amqp:not-found)."""
        if name.lower() not in self.hubs:
            raise Refused("amqp:not-found", f"The messaging entity '{name}' could not be found.")
        return self.hubs[name.lower()]

    def send(self, hub_name: str, partition_id: str | None, payload: bytes, message_format: int) -> None:
        """Store one transfer, an event or a batch, in one partition. Raises Refused."""
        if self.faults.take("rejected_sends"):
            raise Refused("com.microsoft:server-busy", "The request was terminated because the entity is throttled.")
        hub = self.hub(hub_name)
        partition_key, events = unpack_transfer(payload, message_format)
        partition = hub.partition(partition_id) if partition_id is not None else hub.choose(partition_key)
        self._last_ms = max(_now_ms(), self._last_ms)
        if self._file:
            record = msgspec.msgpack.encode(_Send(hub.name, partition.id, self._last_ms, message_format, payload))
            self._file.write(len(record).to_bytes(4) + record)
        partition.append(events, partition_key, self._last_ms)
        for wake in [*(reader.wake for reader in partition.readers), *self.watchers]:
            wake()

    def attach(self, partition: Partition, reader: Reader) -> None:
        """Admit a reader to a partition. Raises Refused."""
        partition.attach(reader)
        for watcher in tuple(self.watchers):
            watcher()

    def _replay(self) -> None:
        """Read the data file back; a record that a kill cut short was never acknowledged, and goes."""
        if not self._file:
            return
        self._file.seek(0)
        content, start = self._file.read(), 0
        while (end := start + 4 + int.from_bytes(content[start : start + 4])) <= len(content):
            send = msgspec.msgpack.decode(content[start + 4 : end], type=_Send)
            partition_key, events = unpack_transfer(send.payload, send.message_format)
            self.hub(send.hub).partition(send.partition).append(events, partition_key, send.enqueued_ms)
            self._last_ms, start = send.enqueued_ms, end
        self._file.truncate(start)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
