"""One AMQP connection: it obeys the peer's link credit and session window, and answers in the order things happened.

OASIS AMQP 1.0 part 2 (Transport) as narrowed by
https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-protocol-guide. Deliveries are sent settled;
channels and handles are the numbers the client chose.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from azure.eventhub._pyamqp import performatives as frames
from azure.eventhub._pyamqp._decode import decode_frame
from azure.eventhub._pyamqp.constants import EMPTY_FRAME, HEADER_FRAME, SASL_HEADER_FRAME
from azure.eventhub._pyamqp.endpoints import Source, Target
from azure.eventhub._pyamqp.error import AMQPError
from azure.eventhub._pyamqp.message import Properties
from azure.eventhub._pyamqp.outcomes import Accepted, Rejected

from devtools.eventhubs.amqp import (
    APPLICATION_PROPERTIES,
    PROPERTIES,
    encode_message,
    frame,
    sections,
    text,
)
from devtools.eventhubs.broker import Broker, Partition, Reader, Refused
from devtools.eventhubs.management import REQUEST_NODES, answer, last_enqueued

MAX_FRAME = 65_536  # the service's own
TRANSFER_OVERHEAD = 128  # more than a frame header and a transfer performative take
WINDOW = 2**31 - 1
SENDER_CREDIT = 300

type Fields = list[Any]  # a decoded performative: by position, padded with None; a transfer's payload is last


@dataclass(eq=False, slots=True)
class Session:
    """`window`: transfer frames the client still takes. The ids count transfer frames each way."""

    channel: int
    window: int
    next_incoming_id: int
    next_outgoing_id: int = 0
    links: dict[int, "Publisher | Subscriber"] = field(default_factory=dict)


@dataclass(eq=False, slots=True, kw_only=True)
class Publisher:
    """A link that the client sends on, with the first frame and the bytes so far of the transfer under way."""

    handle: int
    path: tuple[str, ...]
    delivery_count: int = 0
    first: Fields = field(default_factory=list)
    buffer: bytearray = field(default_factory=bytearray)


@dataclass(eq=False, slots=True, kw_only=True)
class Subscriber:
    """A link that the client receives on; `take` gives the next message, or None while there is none."""

    handle: int
    path: tuple[str, ...]
    take: Callable[[], bytes | None]
    release: Callable[[], None] = lambda: None
    replies: deque[bytes] = field(default_factory=deque)
    credit: int = 0
    delivery_count: int = 0


class Connection:
    """Serves one client until it leaves, is silent for `idle_timeout` seconds, or is dropped."""

    def __init__(
        self,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        broker: Broker,
        *,
        max_message_size: int,
        idle_timeout: float,
    ) -> None:
        self._in, self._out = streams
        self._broker, self._max_message_size, self._idle_timeout = broker, max_message_size, idle_timeout
        self._sessions: dict[int, Session] = {}
        self._peer_max_frame = MAX_FRAME
        self._heartbeat: asyncio.TimerHandle | None = None
        self._on_connection: Mapping[int, Callable[[int, Fields], None]] = {
            0x10: self._on_open,
            0x11: self._on_begin,
            0x18: self._on_close,
        }
        self._on_session: Mapping[int, Callable[[Session, Fields], None]] = {
            0x12: self._on_attach,
            0x13: self._on_flow,
            0x14: self._on_transfer,
            0x16: self._on_detach,
            0x17: self._on_end,
        }

    async def run(self) -> None:
        """Serve the client. Raises OSError or EOFError when it vanishes."""
        async with asyncio.timeout(self._idle_timeout):
            await self._greet()
        while not self._out.is_closing():
            try:
                async with asyncio.timeout(self._idle_timeout):
                    channel, code, fields = await self._read()
            except TimeoutError:
                idle = AMQPError(b"amqp:connection:forced", "The connection was inactive for too long.", None)
                return self._send(0, frames.CloseFrame, error=idle)
            if on_connection := self._on_connection.get(code):
                on_connection(channel, fields)
            elif (on_session := self._on_session.get(code)) and (session := self._sessions.get(channel)):
                on_session(session, fields)  # what follows an END is dropped: the SDK detaches links after it
        return None

    def close(self) -> None:
        """Close once everything written has left, and free the partitions read from here."""
        if self._heartbeat:
            self._heartbeat.cancel()
        while self._sessions:
            self._release(self._sessions.popitem()[1])
        self._out.close()

    def abort(self) -> None:
        """Drop the connection without a word."""
        self.close()
        self._out.transport.abort()

    # ---- frames

    async def _greet(self) -> None:
        header = await self._in.readexactly(8)
        if header == SASL_HEADER_FRAME:
            mechanisms = [b"MSSBCBS", b"ANONYMOUS", b"PLAIN", b"EXTERNAL"]
            self._out.write(header + frame(0, frames.SASLMechanism, b"\x01", sasl_server_mechanisms=mechanisms))
            await self._read()
            self._out.write(frame(0, frames.SASLOutcome, b"\x01", code=0))
            header = await self._in.readexactly(8)
        if header != HEADER_FRAME:
            raise ConnectionAbortedError(f"not AMQP 1.0: {header!r}")
        self._out.write(header)

    async def _read(self) -> tuple[int, int, Fields]:
        head = await self._in.readexactly(8)
        size, channel = int.from_bytes(head[:4]), int.from_bytes(head[6:])
        if size == len(head):
            return channel, 0, []  # a heartbeat
        code, fields = decode_frame(memoryview(await self._in.readexactly(size - len(head))))
        payload = [fields.pop()] if code == 0x14 else []
        return channel, code, fields + [None] * (14 - len(fields)) + payload

    def _send(self, channel: int, kind: Any, /, **fields: object) -> None:
        self._out.write(frame(channel, kind, **fields))

    # ---- connection and sessions

    def _on_open(self, _channel: int, fields: Fields) -> None:
        self._peer_max_frame = fields[2] or MAX_FRAME
        self._send(
            0,
            frames.OpenFrame,
            container_id="eventhubs",
            max_frame_size=MAX_FRAME,
            channel_max=4999,
            idle_timeout=int(self._idle_timeout * 1000),
        )
        if fields[4]:
            self._beat(fields[4] / 2000)

    def _beat(self, seconds: float) -> None:
        self._out.write(EMPTY_FRAME)
        self._heartbeat = asyncio.get_running_loop().call_later(seconds, self._beat, seconds)

    def _on_begin(self, channel: int, fields: Fields) -> None:
        self._sessions[channel] = Session(channel, window=fields[2], next_incoming_id=fields[1])
        windows = {"next_outgoing_id": 0, "incoming_window": WINDOW, "outgoing_window": WINDOW, "handle_max": 255}
        self._send(channel, frames.BeginFrame, remote_channel=channel, **windows)

    def _on_end(self, session: Session, _fields: Fields) -> None:
        self._release(self._sessions.pop(session.channel))
        self._send(session.channel, frames.EndFrame)

    def _on_close(self, _channel: int, _fields: Fields) -> None:
        self._send(0, frames.CloseFrame)
        self.close()

    @staticmethod
    def _release(session: Session) -> None:
        while session.links:
            link = session.links.popitem()[1]
            if isinstance(link, Subscriber):
                link.release()

    # ---- links

    def _on_attach(self, session: Session, fields: Fields) -> None:
        handle, receives = fields[1], bool(fields[2])
        addresses = [end[0] if end else None for end in (fields[5], fields[6])]
        path = _path(addresses[0] if receives else addresses[1])
        refusal: Refused | None = None
        try:
            link = self._subscriber(session, path, fields) if receives else self._publisher(path, handle)
            session.links[handle] = link
        except Refused as error:
            refusal = error
            addresses = [None, None]  # how AMQP says that a link is refused: a null terminus, then a detach
        self._send(
            session.channel,
            frames.AttachFrame,
            name=fields[0],
            handle=handle,
            role=not receives,
            send_settle_mode=fields[3],
            rcv_settle_mode=fields[4],
            source=_terminus(Source, addresses[0]),
            target=_terminus(Target, addresses[1]),
            initial_delivery_count=0 if receives else None,
            max_message_size=self._max_message_size,
        )
        if refusal:
            self._detach(session, handle, refusal)
        elif not receives:
            self._flow(session, session.links[handle], SENDER_CREDIT)

    def _publisher(self, path: tuple[str, ...], handle: int) -> Publisher:
        if path[-1] not in REQUEST_NODES:
            hub = self._broker.hub(path[0])
            if path[1:]:
                hub.partition(path[2])
        return Publisher(handle=handle, path=path)

    def _subscriber(self, session: Session, path: tuple[str, ...], fields: Fields) -> Subscriber:
        handle = fields[1]
        if path[-1] in REQUEST_NODES:
            replies: deque[bytes] = deque()
            take = lambda: replies.popleft() if replies else None  # noqa: E731 - reads as what it is
            return Subscriber(handle=handle, path=path, take=take, replies=replies)
        partition = self._broker.hub(path[0]).partition(path[4])
        filters = ([*fields[5], *[None] * 8])[7] or {}
        reader = Reader(
            group=path[2].lower(),
            epoch=(fields[13] or {}).get(b"com.microsoft:epoch"),
            cursor=partition.position(text(filters.get(b"apache.org:selector-filter:string"))),
            wake=lambda: self._pump(session, link),
            evict=lambda refusal: self._detach(session, handle, refusal),
        )
        tracks = b"com.microsoft:enable-receiver-runtime-metric" in (fields[12] or ())
        take_event = partial(self._take, partition, reader, tracks)
        release = lambda: partition.readers.remove(reader)  # noqa: E731 - likewise
        link = Subscriber(handle=handle, path=path, take=take_event, release=release)
        self._broker.attach(partition, reader)
        return link

    def _take(self, partition: Partition, reader: Reader, tracks_last_enqueued: bool) -> bytes | None:
        if reader.cursor >= len(partition.events):
            return None
        event = partition.events[reader.cursor]
        reader.cursor += not self._broker.faults.take("duplicate_deliveries")
        return event.wire + last_enqueued(partition) if tracks_last_enqueued else event.wire

    def _detach(self, session: Session, handle: int, refusal: Refused) -> None:
        link = session.links.pop(handle, None)
        if isinstance(link, Subscriber):
            link.release()
        self._send(session.channel, frames.DetachFrame, handle=handle, closed=True, error=_error(refusal))

    def _on_detach(self, session: Session, fields: Fields) -> None:
        link = session.links.pop(fields[0], None)
        if isinstance(link, Subscriber):
            link.release()
        if link:
            self._send(session.channel, frames.DetachFrame, handle=fields[0], closed=fields[1])

    # ---- client receives

    def _on_flow(self, session: Session, fields: Fields) -> None:
        next_incoming_id, window, _, _, handle, delivery_count, credit, _, drain, echo, *_ = fields
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
            frames.FlowFrame,
            next_incoming_id=session.next_incoming_id,
            incoming_window=WINDOW,
            next_outgoing_id=session.next_outgoing_id,
            outgoing_window=WINDOW,
            handle=link.handle,
            delivery_count=link.delivery_count,
            link_credit=credit,
        )

    def _pump(self, session: Session, link: "Publisher | Subscriber") -> None:
        if not isinstance(link, Subscriber):
            return
        size = self._peer_max_frame - TRANSFER_OVERHEAD
        while link.credit > 0 and session.window > 0 and (payload := link.take()) is not None:
            frame_count = math.ceil(len(payload) / size)
            for index in range(frame_count):
                self._send(
                    session.channel,
                    frames.TransferFrame,
                    handle=link.handle,
                    delivery_id=session.next_outgoing_id,
                    delivery_tag=link.delivery_count.to_bytes(4),
                    message_format=0,
                    settled=True,
                    more=index < frame_count - 1,
                    payload=payload[index * size : (index + 1) * size],
                )
            session.next_outgoing_id += frame_count
            session.window -= frame_count
            link.delivery_count += 1
            link.credit -= 1

    # ---- client sends

    def _on_transfer(self, session: Session, fields: Fields) -> None:
        session.next_incoming_id += 1
        link = session.links.get(fields[0])
        if not isinstance(link, Publisher):
            return  # its link was detached meanwhile
        if not link.buffer:
            link.first = fields[:-1]
        if len(link.buffer) <= self._max_message_size:  # what is already too large is only counted to its end
            link.buffer += fields[-1]
        if not fields[5]:  # no more frames
            self._receive(session, link)

    def _receive(self, session: Session, link: Publisher) -> None:
        payload = bytes(link.buffer)
        link.buffer.clear()
        link.delivery_count += 1
        if link.delivery_count % (SENDER_CREDIT // 2) == 0:
            self._flow(session, link, SENDER_CREDIT)
        _, delivery_id, _, message_format, settled, *_ = link.first
        state: Accepted | Rejected = Accepted()
        if link.path[-1] in REQUEST_NODES:
            self._reply(session, link, payload)
        elif refusal := self._store(link, payload, message_format or 0):
            state = Rejected(_error(refusal))
        elif self._broker.faults.take("lost_acks"):
            return self.abort()
        if not settled:
            fields = {"role": True, "first": delivery_id, "last": delivery_id, "settled": True, "state": state}
            acknowledge = partial(self._send, session.channel, frames.DispositionFrame, **fields)
            asyncio.get_running_loop().call_later(self._broker.faults.ack_delay, acknowledge)
        return None

    def _store(self, link: Publisher, payload: bytes, message_format: int) -> Refused | None:
        try:
            if len(payload) > (limit := self._max_message_size):
                too_large = f"The received message exceeds the limit ({limit} bytes) currently allowed on the link."
                return Refused("amqp:link:message-size-exceeded", too_large)
            self._broker.send(link.path[0], link.path[2] if link.path[1:] else None, payload, message_format)
        except Refused as refusal:
            return refusal
        return None

    def _reply(self, session: Session, link: Publisher, payload: bytes) -> None:
        values = {code: value for code, value, _ in sections(payload)}
        request = {text(name): text(value) for name, value in values[APPLICATION_PROPERTIES].items()}
        status, value = answer(self._broker, link.path[-1], request)
        reply = encode_message(
            properties=Properties(correlation_id=values[PROPERTIES][0]),
            application_properties={"status-code": status, "status-description": value if status > 299 else "OK"},
            value=value,
        )
        for other in session.links.values():
            if isinstance(other, Subscriber) and other.path == link.path:
                other.replies.append(reply)
                self._pump(session, other)


def _path(address: bytes | None) -> tuple[str, ...]:
    """`amqps://host/hub/Partitions/0` -> ("hub", "Partitions", "0"); `$cbs` -> ("$cbs",)."""
    full = str(text(address or b""))
    return tuple(full.split("://", 1)[1].split("/")[1:] if "://" in full else full.split("/"))


def _terminus(kind: Any, address: bytes | None) -> Any:
    return kind(address=address) if address is not None else None


def _error(refusal: Refused) -> AMQPError:
    return AMQPError(refusal.condition.encode(), refusal.description, None)
