"""The archived form of a call: a line of JSON, then the request body, then the response body, each exactly as sent.

    {"v":1,"request_bytes":17,"response_bytes":4711,"record":{...}}\\n
    <17 bytes><4711 bytes>

Rule: same call, same name, same bytes. `head -1` shows the record; nothing is needed to read the rest but the two lengths.
"""

import msgspec

from shared.core.call_ids import opened_at
from shared.core.call_record import CallRecord

VERSION = 1


class ArchivedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A closed record with the two bodies."""

    record: CallRecord
    request: bytes
    response: bytes


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    v: int
    request_bytes: int
    response_bytes: int
    record: CallRecord


_header_decoder = msgspec.json.Decoder(_Header)


def encode(call: ArchivedCall) -> bytes:
    """The archive object's bytes."""
    return head_of(call.record, len(call.request), len(call.response)) + call.request + call.response


def head_of(record: CallRecord, request_bytes: int, response_bytes: int) -> bytes:
    """What stands before the bodies."""
    header = _Header(v=VERSION, request_bytes=request_bytes, response_bytes=response_bytes, record=record)
    return msgspec.json.encode(header) + b"\n"


def decode(content: bytes) -> ArchivedCall:
    """The call in an archive object. Raises ValueError where its bytes are not whole, or of a version unknown here."""
    line, _, bodies = content.partition(b"\n")
    header = _header_of(line)
    if len(bodies) != header.request_bytes + header.response_bytes:
        raise ValueError(f"{len(bodies)} bytes of bodies, {header.request_bytes} + {header.response_bytes} promised")
    return ArchivedCall(
        record=header.record, request=bodies[: header.request_bytes], response=bodies[header.request_bytes :]
    )


def record_of(beginning: bytes) -> CallRecord:
    """The record, from the beginning of an archive object. Raises ValueError as `decode` does."""
    return _header_of(beginning.partition(b"\n")[0]).record


def _header_of(line: bytes) -> _Header:
    header = _header_decoder.decode(line)
    if header.v != VERSION:
        raise ValueError(f"version {header.v}; known here is {VERSION}")
    return header


def blob_name(call_id: str) -> str:
    """Where a call is archived: `YYYY/MM/DD/HH/<call id>`, by the UTC hour in which it was opened."""
    return f"{opened_at(call_id):%Y/%m/%d/%H}/{call_id}"
