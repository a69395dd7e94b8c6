"""AMQP frames and messages as bytes: a message keeps the bytes it was sent with, the service only adds annotations.

Decoding and re-encoding would lose types (the codec decodes strings, symbols and binaries alike to bytes), so sections
are cut out and spliced, never rebuilt. OASIS AMQP 1.0 part 2 §2.3 (frames), part 3 §3.2 (sections).

The codec is `azure.eventhub._pyamqp`, private to the SDK, hence azure-eventhub is pinned. The SDK reads the fields of a
performative by position and fails on the trimmed lists other AMQP libraries send; its own codec writes every field.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from azure.eventhub._pyamqp._decode import _DECODE_BY_CONSTRUCTOR
from azure.eventhub._pyamqp._encode import encode_annotations, encode_frame, encode_payload, encode_value
from azure.eventhub._pyamqp.message import Message
from azure.eventhub._pyamqp.types import TYPE, VALUE, AMQPTypes

BATCH_FORMAT = 0x80013700  # message-format of a batch: each data section is an encoded message
HEADER, DELIVERY_ANNOTATIONS, MESSAGE_ANNOTATIONS, PROPERTIES, APPLICATION_PROPERTIES, DATA = range(0x70, 0x76)
PARTITION_KEY = b"x-opt-partition-key"

type Typed = dict[str, Any]  # a value with the AMQP type the codec is to give it


def frame(channel: int, kind: Any, frame_type: bytes = b"\x00", /, **fields: object) -> bytes:
    """Encode one frame of performative class `kind`; fields not given are null."""
    head, body = encode_frame(kind(**dict.fromkeys(kind._fields) | fields), frame_type)
    return head + channel.to_bytes(2) + (body or b"")


def long(value: int) -> Typed:
    """A 64-bit integer."""
    return {TYPE: AMQPTypes.long, VALUE: value}


def timestamp(milliseconds: int) -> Typed:
    """A time as Unix milliseconds."""
    return {TYPE: AMQPTypes.timestamp, VALUE: milliseconds}


def text(value: Any) -> Any:
    """The codec's bytes as str, since that is what strings and symbols decode to; anything else as it is."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def encode_message(**sections: Any) -> bytes:
    """Encode a message of the service's own from the sections of the codec's Message."""
    return bytes(encode_payload(bytearray(), Message(**sections)))


def sections(payload: bytes) -> Iterator[tuple[int, Any, bytes]]:
    """(section code, decoded value, raw bytes) of each section, in the order sent."""
    view = memoryview(payload)
    while view:
        after, value = _DECODE_BY_CONSTRUCTOR[view[3]](view[4:])  # described (0x00) by a small ulong (0x53) and a code
        yield view[2], value, view[: len(view) - len(after)].tobytes()
        view = after


def unpack(payload: bytes, message_format: int) -> tuple[str | None, list[bytes]]:
    """The partition key of a transfer, and its events: the messages of a batch, or the one message."""
    if message_format != BATCH_FORMAT:
        return _partition_key(payload), [payload]
    events = [value for code, value, _ in sections(payload) if code == DATA]
    return _partition_key(payload) or (_partition_key(events[0]) if events else None), events


def stamp(payload: bytes, added: Mapping[str | bytes, object]) -> bytes:
    """The message as receivers get it: `added` put into its annotation map, in place of what the sender put there."""
    header, rest, entries = b"", b"", list[bytes]()
    for code, _, raw in sections(payload):
        if code == HEADER:
            header = raw
        elif code == MESSAGE_ANNOTATIONS:
            entries = [entry for key, entry in _map_entries(raw[3:]) if key not in added]
        elif code != DELIVERY_ANNOTATIONS:
            rest += raw
    encode_value(encoded := bytearray(), encode_annotations(dict(added)))
    entries += [entry for _, entry in _map_entries(bytes(encoded))]
    body = b"".join(entries)
    map32 = b"\x00\x53\x72\xd1" + (len(body) + 4).to_bytes(4) + (2 * len(entries)).to_bytes(4)
    return header + map32 + body + rest


def _map_entries(encoded_map: bytes) -> Iterator[tuple[object, bytes]]:
    """Each key of an encoded map, with the bytes of key and value."""
    view = memoryview(encoded_map)[3 if encoded_map[0] == 0xC1 else 9 :]  # map8 or map32, its size and count
    while view:
        after, key = _DECODE_BY_CONSTRUCTOR[view[0]](view[1:])
        after, _ = _DECODE_BY_CONSTRUCTOR[after[0]](after[1:])
        yield key, view[: len(view) - len(after)].tobytes()
        view = after


def _partition_key(payload: bytes) -> str | None:
    found = [value.get(PARTITION_KEY) for code, value, _ in sections(payload) if code == MESSAGE_ANNOTATIONS]
    return text(found[0]) if found else None
