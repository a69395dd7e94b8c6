"""AMQP message bytes are kept as they were sent: only the service's own annotations are added.

Re-encoding a decoded message would lose types (the codec decodes strings, symbols and binaries alike to bytes), so
sections are cut out and spliced, never rebuilt. Section codes: AMQP 1.0 part 3 (Messaging), §3.2.

The codec is `azure.eventhub._pyamqp`, private to the SDK: azure-eventhub is pinned (5.15.1) in requirements.txt. It is
used because that SDK indexes the fields of a performative by position and fails on the trimmed lists that other
AMQP libraries send; its own codec always writes every field.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from azure.eventhub._pyamqp._decode import _DECODE_BY_CONSTRUCTOR
from azure.eventhub._pyamqp._encode import encode_annotations, encode_payload, encode_value
from azure.eventhub._pyamqp.message import Message, Properties

BATCH_FORMAT = 0x80013700  # message-format of a batch: each data section is one encoded message
HEADER, DELIVERY_ANNOTATIONS, MESSAGE_ANNOTATIONS, PROPERTIES, APPLICATION_PROPERTIES, DATA = range(0x70, 0x76)
VALUE = 0x77
PARTITION_KEY = b"x-opt-partition-key"
_SMALL_MAP = 0xC1


@dataclass(frozen=True, slots=True)
class Sections:
    """A message cut into `header`, the raw entries of its annotation map, and `rest` (properties, body, footer)."""

    header: bytes
    annotation_entries: bytes
    annotation_count: int
    rest: bytes
    body: bytes
    properties: Mapping[str, object]
    partition_key: str | None


def _sections(payload: bytes) -> list[tuple[int, object, bytes]]:
    """(section code, decoded value, raw bytes) in the order sent."""
    view, found = memoryview(payload), []
    while view:
        code = view[2]  # a described type (0x00) named by a small ulong (0x53)
        after, value = _DECODE_BY_CONSTRUCTOR[view[3]](view[4:])
        found.append((code, value, view[: len(view) - len(after)].tobytes()))
        view = after
    return found


def cut(payload: bytes) -> Sections:
    """Cut one encoded message."""
    parts = _sections(payload)
    values = {code: value for code, value, _ in parts}
    raw = {code: section for code, _, section in parts}
    annotations = values.get(MESSAGE_ANNOTATIONS) or {}
    assert isinstance(annotations, dict)
    map_header = 3 if raw.get(MESSAGE_ANNOTATIONS, b"\0\0\0\xc1")[3] == _SMALL_MAP else 9
    application_properties = values.get(APPLICATION_PROPERTIES) or {}
    assert isinstance(application_properties, dict)
    own = {HEADER, DELIVERY_ANNOTATIONS, MESSAGE_ANNOTATIONS}
    return Sections(
        header=raw.get(HEADER, b""),
        annotation_entries=raw[MESSAGE_ANNOTATIONS][3 + map_header :] if annotations else b"",
        annotation_count=len(annotations),
        rest=b"".join(section for code, _, section in parts if code not in own),
        body=b"".join(value for code, value, _ in parts if code == DATA and isinstance(value, bytes)),
        properties={text(key): text(value) for key, value in application_properties.items()},
        partition_key=annotations[PARTITION_KEY].decode() if PARTITION_KEY in annotations else None,
    )


def text(value: object) -> object:
    """Bytes that are UTF-8 as str (strings and symbols arrive as bytes); anything else as it is."""
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


def unpack(payload: bytes, message_format: int) -> tuple[str | None, list[Sections]]:
    """The partition key of a transfer and the events in it: several for a batch, else one."""
    if message_format != BATCH_FORMAT:
        event = cut(payload)
        return event.partition_key, [event]
    bodies = [value for code, value, _ in _sections(payload) if code == DATA and isinstance(value, bytes)]
    events = [cut(body) for body in bodies]
    return cut(payload).partition_key or (events[0].partition_key if events else None), events


def annotate(event: Sections, extra: Mapping[bytes, Mapping[str, object]]) -> bytes:
    """The message as a receiver gets it: `extra` (codec-typed values) added to its message annotations."""
    added = bytearray()
    encode_value(added, encode_annotations(dict(extra)))
    entries = event.annotation_entries + added[3 if added[0] == _SMALL_MAP else 9 :]
    count = 2 * (event.annotation_count + len(extra))
    size = len(entries) + 4
    head = b"\x00\x53\x72\xd1" + size.to_bytes(4, "big") + count.to_bytes(4, "big")
    return event.header + head + entries + event.rest


def encode_message(message: Message) -> bytes:
    """Encode a message that the service itself writes."""
    return bytes(encode_payload(bytearray(), message))


@dataclass(frozen=True, slots=True)
class Request:
    """A management or $cbs request."""

    message_id: object
    properties: Mapping[object, object]


def read_request(payload: bytes) -> Request:
    """Read the parts of a request that an answer needs."""
    values = {code: value for code, value, _ in _sections(payload)}
    properties, application = values.get(PROPERTIES), values.get(APPLICATION_PROPERTIES)
    assert isinstance(properties, list)
    assert isinstance(application, dict)
    return Request(properties[0], {text(key): text(value) for key, value in application.items()})


def answer(request: Request, status: int, description: str, value: object = None) -> bytes:
    """Encode the answer that the management protocol expects: status in the application properties."""
    return encode_message(
        Message(
            properties=Properties(correlation_id=request.message_id),  # type: ignore[arg-type]  # any message-id type
            application_properties={"status-code": status, "status-description": description},
            value=value,
        )
    )
