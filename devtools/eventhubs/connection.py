"""One AMQP 1.0 connection: it obeys the peer's link credit and session window, and answers in the order things happened.

Follows OASIS AMQP 1.0 part 2 (Transport) and "AMQP 1.0 in Azure Service Bus and Event Hubs protocol guide"
(https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-protocol-guide). Deliveries are sent settled.
A link and a session keep the handle and the channel that the client chose.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from azure.eventhub._pyamqp import performatives as frames
from azure.eventhub._pyamqp._decode import decode_frame
from azure.eventhub._pyamqp._encode import encode_frame
from azure.eventhub._pyamqp.constants import EMPTY_FRAME, HEADER_FRAME, SASL_HEADER_FRAME
from azure.eventhub._pyamqp.endpoints import Source, Target
from azure.eventhub._pyamqp.error import AMQPError
from azure.eventhub._pyamqp.outcomes import Accepted, Rejected

from devtools.eventhubs.broker import Broker, Partition, Reader, Refused
from devtools.eventhubs.faults import Faults
from devtools.eventhubs.management import REQUEST_NODES, last_enqueued, respond
from devtools.eventhubs.messages import read_request, text

MAX_FRAME = 65_536  # the service's own
TRANSFER_OVERHEAD = 128  # more than a frame header and a transfer performative ever take
WINDOW = 2**31 - 1
SENDER_CREDIT = 300
RUNTIME_METRIC = b"com.microsoft:enable-receiver-runtime-metric"

type Fields = list[Any]  # the codec's decoded performative: positional, padded to its full length


class Feed(Protocol):
    """Where a link to a client takes its messages from."""

    def take(self) -> bytes | None:
        """The next message, or None when there is none yet."""


@dataclass(eq=False, slots=True)
class Session:
    """`window` is how many transfer frames the peer still takes; ids are the session's transfer counters."""

    channel: int
    window: int
    next_outgoing_id: int = 0
    next_incoming_id: int = 0
    links: dict[int, "Publisher | Subscriber"] = field(default_factory=dict)


@dataclass(eq=False, slots=True, kw_only=True)
class Publisher:
    """A link the client sends on, and the transfer that is arriving on it."""

    handle: int
    path: tuple[str, ...]
    delivery_count: int = 0
    delivery_id: int = 0
    message_format: int = 0
    settled: bool = False
    buffer: bytearray = field(default_factory=bytearray)


@dataclass(eq=False, slots=True, kw_only=True)
class Subscriber:
    """A link the client receives on."""

    handle: int
    path: tuple[str, ...]
    feed: Feed
    release: Callable[[], None] = lambda: None
    credit: int = 0
    delivery_count: int = 0


class Replies:
    """A feed of answers to requests."""

    def __init__(self) -> None:
        self.queue: deque[bytes] = deque()

    def take(self) -> bytes | None:
        """The oldest answer not yet sent."""
        return self.queue.popleft() if self.queue else None


@dataclass(frozen=True, slots=True)
class PartitionFeed:
    """A feed that follows one partition for one reader."""

    partition: Partition
    reader: Reader
    faults: Faults
    runtime_metric: bool

    def take(self) -> bytes | None:
        """The event under the reader's cursor, which then moves on unless a duplicate was asked for."""
        if self.reader.cursor >= len(self.partition.events):
            return None
        event = self.partition.events[self.reader.cursor]
        if not self.faults.take("duplicate_deliveries"):
            self.reader.cursor += 1
        return event.wire + last_enqueued(self.partition) if self.runtime_metric else event.wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """What connections share: the broker, the faults to show, and the limits. `idle_timeout` in seconds."""

    broker: Broker
    faults: Faults
    max_message_size: int
    idle_timeout: float


class Connection:
    """Serves one client until it leaves, is silent for too long, or is dropped."""

    def __init__(self, namespace: Namespace, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._namespace = namespace
        self._in, self._out = reader, writer
        self._sessions: dict[int, Session] = {}
        self._peer_max_frame = 512
        self._heartbeat: asyncio.TimerHandle | None = None
        self._connection_handlers: Mapping[int, Callable[[int, Fields], None]] = {
            frames.OpenFrame._code: self._on_open,
            frames.BeginFrame._code: self._on_begin,
            frames.CloseFrame._code: self._on_close,
        }
        self._session_handlers: Mapping[int, Callable[[Session, Fields], None]] = {
            frames.AttachFrame._code: self._on_attach,
            frames.FlowFrame._code: self._on_flow,
            frames.TransferFrame._code: self._on_transfer,
            frames.DetachFrame._code: self._on_detach,
            frames.EndFrame._code: self._on_end,
        }

    async def run(self) -> None:
        """Serve the connection. Raises what asyncio raises when the peer vanishes."""
        await self._greet()
        while not self._out.is_closing():
            try:
                async with asyncio.timeout(self._namespace.idle_timeout):
                    channel, code, fields = await self._read()
            except TimeoutError:
                self._send(0, frames.CloseFrame(AMQPError(b"amqp:connection:forced", "idle for too long", None)))
                return
            self._dispatch(channel, code, fields)

    def _dispatch(self, channel: int, code: int, fields: Fields) -> None:
        if on_connection := self._connection_handlers.get(code):
            on_connection(channel, fields)
        elif (on_session := self._session_handlers.get(code)) and (session := self._sessions.get(channel)):
            on_session(session, fields)  # frames that follow an END are dropped: the SDK detaches links after it

    def abort(self) -> None:
        """Drop the connection without a word."""
        self.close()
        self._out.transport.abort()

    def close(self) -> None:
        """Close after what was written has left, and release everything attached through it."""
        if self._heartbeat:
            self._heartbeat.cancel()
        for session in self._sessions.values():
            self._release(session)
        self._sessions.clear()
        self._out.close()

    # ---- frames

    async def _greet(self) -> None:
        header = await self._in.readexactly(8)
        if header == SASL_HEADER_FRAME:
            self._out.write(SASL_HEADER_FRAME)
            self._send(0, frames.SASLMechanism([b"MSSBCBS", b"ANONYMOUS", b"PLAIN", b"EXTERNAL"]), b"\x01")
            await self._read()
            self._send(0, frames.SASLOutcome(0, None), b"\x01")
            header = await self._in.readexactly(8)
        if header != HEADER_FRAME:
            raise ConnectionAbortedError(f"not AMQP 1.0: {header!r}")
        self._out.write(HEADER_FRAME)

    async def _read(self) -> tuple[int, int, Fields]:
        head = await self._in.readexactly(8)
        size, channel = int.from_bytes(head[:4]), int.from_bytes(head[6:])
        if size == len(head):
            return channel, 0, []  # a heartbeat
        code, fields = decode_frame(memoryview(await self._in.readexactly(size - 8)))
        payload = [fields.pop()] if code == frames.TransferFrame._code else []
        return channel, code, fields + [None] * (14 - len(fields)) + payload

    def _send(self, channel: int, performative: Any, frame_type: bytes = b"\x00") -> None:
        head, body = encode_frame(performative, frame_type)
        self._out.write(head + channel.to_bytes(2) + (body or b""))

    # ---- connection and session

    def _on_open(self, _channel: int, fields: Fields) -> None:
        self._peer_max_frame = fields[2] or WINDOW
        idle_ms = int(self._namespace.idle_timeout * 1000)
        self._send(0, frames.OpenFrame("eventhubs", None, MAX_FRAME, 4999, idle_ms, None, None, None, None, None))
        if fields[4]:
            self._beat(fields[4] / 2000)

    def _beat(self, seconds: float) -> None:
        self._out.write(EMPTY_FRAME)
        self._heartbeat = asyncio.get_running_loop().call_later(seconds, self._beat, seconds)

    def _on_begin(self, channel: int, fields: Fields) -> None:
        session = self._sessions[channel] = Session(channel, window=fields[2], next_incoming_id=fields[1])
        self._send(
            channel,
            frames.BeginFrame(channel, session.next_outgoing_id, WINDOW, WINDOW, 255, None, None, None),
        )

    def _on_end(self, session: Session, _fields: Fields) -> None:
        del self._sessions[session.channel]
        self._release(session)
        self._send(session.channel, frames.EndFrame(None))

    def _on_close(self, _channel: int, _fields: Fields) -> None:
        self._send(0, frames.CloseFrame(None))
        self._out.close()

    def _release(self, session: Session) -> None:
        for link in session.links.values():
            if isinstance(link, Subscriber):
                link.release()
        session.links.clear()

    # ---- links

    def _on_attach(self, session: Session, fields: Fields) -> None:
        handle, client_receives = fields[1], bool(fields[2])
        source, target = (Source(end[0]) if end else None for end in (fields[5], fields[6]))
        end = source if client_receives else target
        path = _path(end.address if end else b"")
        refusal = None
        link: Publisher | Subscriber | None = None
        try:
            link = self._subscribe(session, handle, path, fields) if client_receives else self._publish(handle, path)
            session.links[handle] = link
        except Refused as error:
            refusal = error
        self._send(
            session.channel,
            frames.AttachFrame(
                fields[0], handle, not client_receives, fields[3], fields[4],
                source if link else None, Target(target.address) if link and target else None,
                None, False, 0 if client_receives else None, self._namespace.max_message_size, None, None, None,
            ),
        )  # fmt: skip
        if refusal:
            self._detach(session, handle, refusal)
        elif isinstance(link, Publisher):
            self._flow(session, link, SENDER_CREDIT)

    def _publish(self, handle: int, path: tuple[str, ...]) -> Publisher:
        if path[-1] not in REQUEST_NODES:
            hub = self._namespace.broker.hub(path[0])
            if path[1:]:
                hub.partition(path[2])
        return Publisher(handle=handle, path=path)

    def _subscribe(self, session: Session, handle: int, path: tuple[str, ...], fields: Fields) -> Subscriber:
        if path[-1] in REQUEST_NODES:
            return Subscriber(handle=handle, path=path, feed=Replies())
        hub, _, group, _, partition_id = path
        partition = self._namespace.broker.hub(hub).partition(partition_id)
        filters = (fields[5][7] if len(fields[5]) > 7 else None) or {}  # noqa: PLR2004 - the source's filter set
        selector = filters.get(b"apache.org:selector-filter:string")
        reader = Reader(
            group=group.lower(),
            epoch=(fields[13] or {}).get(b"com.microsoft:epoch"),
            cursor=partition.position(selector.decode() if selector else None),
            wake=lambda: self._pump(session, link),
            evict=lambda refusal: self._detach(session, handle, refusal),
        )
        feed = PartitionFeed(partition, reader, self._namespace.faults, RUNTIME_METRIC in (fields[12] or ()))
        link = Subscriber(handle=handle, path=path, feed=feed, release=lambda: partition.detach(reader))
        partition.attach(reader)
        return link

    def _detach(self, session: Session, handle: int, refusal: Refused) -> None:
        link = session.links.pop(handle, None)
        if isinstance(link, Subscriber):
            link.release()
        error = AMQPError(refusal.condition.encode(), refusal.description, None)
        self._send(session.channel, frames.DetachFrame(handle, True, error))

    def _on_detach(self, session: Session, fields: Fields) -> None:
        if link := session.links.pop(fields[0], None):
            if isinstance(link, Subscriber):
                link.release()
            self._send(session.channel, frames.DetachFrame(fields[0], fields[1], None))

    # ---- client receives

    def _on_flow(self, session: Session, fields: Fields) -> None:
        next_incoming_id, window, _, _, handle, delivery_count, credit, _, drain, echo = fields[:10]
        session.window = (next_incoming_id or 0) + window - session.next_outgoing_id
        link = session.links.get(handle)
        if not isinstance(link, Subscriber):
            for other in session.links.values():
                self._pump(session, other)
            return
        link.credit = (delivery_count or 0) + (credit or 0) - link.delivery_count
        self._pump(session, link)
        if drain:
            link.delivery_count, link.credit = link.delivery_count + link.credit, 0
        if drain or echo:
            self._flow(session, link, link.credit)

    def _flow(self, session: Session, link: Publisher | Subscriber, credit: int) -> None:
        self._send(
            session.channel,
            frames.FlowFrame(
                session.next_incoming_id, WINDOW, session.next_outgoing_id, WINDOW,
                link.handle, link.delivery_count, credit,
            ),
        )  # fmt: skip

    def _pump(self, session: Session, link: "Publisher | Subscriber") -> None:
        if not isinstance(link, Subscriber):
            return
        while link.credit > 0 and session.window > 0 and (payload := link.feed.take()) is not None:
            self._deliver(session, link, payload)

    def _deliver(self, session: Session, link: Subscriber, payload: bytes) -> None:
        size = self._peer_max_frame - TRANSFER_OVERHEAD
        count = math.ceil(len(payload) / size)
        delivery_id = session.next_outgoing_id
        for index in range(count):
            piece = payload[index * size : (index + 1) * size]
            tag, more = link.delivery_count.to_bytes(4), index < count - 1
            self._send(
                session.channel,
                frames.TransferFrame(link.handle, delivery_id, tag, 0, True, more, None, None, None, None, None, piece),
            )
        session.next_outgoing_id += count
        session.window -= count
        link.delivery_count += 1
        link.credit -= 1

    # ---- client sends

    def _on_transfer(self, session: Session, fields: Fields) -> None:
        session.next_incoming_id += 1
        handle, delivery_id, _, message_format, settled, more, *_ = fields
        link = session.links.get(handle)
        if not isinstance(link, Publisher):
            return  # the rest of a transfer whose link was detached
        if not link.buffer:
            link.delivery_id, link.message_format, link.settled = delivery_id, message_format or 0, bool(settled)
        link.buffer += fields[-1]
        if len(link.buffer) > (limit := self._namespace.max_message_size):
            text = f"The received message ({len(link.buffer)} bytes) exceeds the limit ({limit} bytes) of the link."
            self._detach(session, handle, Refused("amqp:link:message-size-exceeded", text))
        elif not more:
            self._receive(session, link)

    def _receive(self, session: Session, link: Publisher) -> None:
        payload = bytes(link.buffer)
        link.buffer.clear()
        link.delivery_count += 1
        if link.delivery_count % (SENDER_CREDIT // 2) == 0:
            self._flow(session, link, SENDER_CREDIT)
        state = self._store(session, link, payload)
        faults = self._namespace.faults
        if link.path[-1] not in REQUEST_NODES and isinstance(state, Accepted) and faults.take("lost_acks"):
            self.abort()
        elif not link.settled:
            frame = frames.DispositionFrame(True, link.delivery_id, link.delivery_id, True, state, False)
            if faults.ack_delay:
                asyncio.get_running_loop().call_later(faults.ack_delay, self._send, session.channel, frame)
            else:
                self._send(session.channel, frame)

    def _store(self, session: Session, link: Publisher, payload: bytes) -> Accepted | Rejected:
        broker = self._namespace.broker
        if link.path[-1] in REQUEST_NODES:
            reply = respond(broker, link.path[-1], read_request(payload))
            for other in session.links.values():
                if isinstance(other, Subscriber) and isinstance(other.feed, Replies) and other.path == link.path:
                    other.feed.queue.append(reply)
                    self._pump(session, other)
            return Accepted()
        try:
            if self._namespace.faults.take("rejected_sends"):
                raise Refused(
                    "com.microsoft:server-busy", "The request was terminated because the entity is throttled."
                )
            partition_id = link.path[2] if link.path[1:] else None
            broker.send(broker.hub(link.path[0]), partition_id, payload, link.message_format)
        except Refused as refusal:
            return Rejected(AMQPError(refusal.condition.encode(), refusal.description, None))
        return Accepted()


def _path(address: bytes | str) -> tuple[str, ...]:
    """`amqps://host/hub/Partitions/0` -> ("hub", "Partitions", "0"); `$cbs` -> ("$cbs",)."""
    full = str(text(address))
    return tuple(full.split("://", 1)[1].split("/")[1:] if "://" in full else full.split("/"))
