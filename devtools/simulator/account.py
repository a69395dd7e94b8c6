"""The account: what arrived, what was served, and what it should cost. It holds fingerprints, never keys or bodies."""

import copy
import hashlib
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from devtools.simulator.faults import Fault
from devtools.simulator.tokens import Totals


class Entry(msgspec.Struct, kw_only=True):
    """One call. It is opened when the request's headers arrive and filled in as the call goes, hence not frozen."""

    sequence: int
    at: datetime
    resource: str
    family: str
    """`azure` (dated api-version), `azure-v1` or `openai`."""
    method: str
    path: str
    api_version: str | None
    request_id: str
    header_names: tuple[str, ...] = ()
    key_fingerprint: str | None = None
    """The first 16 hex digits of the key's SHA-256; None when no key came."""
    auth: str | None = None
    """`api-key` or `bearer`."""
    client_request_id: str | None = None
    traceparent: str | None = None
    body_sha256: str | None = None
    body_bytes: int = 0
    operation: str | None = None
    deployment: str | None = None
    """The deployment or model that was asked for."""
    model: str | None = None
    """The model that served."""
    stream: bool = False
    fault: Fault | None = None
    status: int | None = None
    usage: dict[str, Any] | None = None
    """What the provider would bill: in full when the call completed, up to the hang-up when it did not."""
    chunks_sent: int = 0
    response_bytes: int = 0
    """Body bytes written, after compression."""
    response_sha256: str | None = None
    completed: bool = False
    """The whole answer was written; false when the caller hung up or a fault cut it."""
    ended: bool = False
    """Nothing more will change, but for the usage of a background job that is cancelled later."""


class ModelTotal(msgspec.Struct, kw_only=True):
    """What one model served."""

    calls: int = 0
    completed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0


class Account:
    """The calls received, in order of arrival."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Takes a call up when it arrives."""
        if self._keep:
            self._entries.append(entry)

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> list[Entry]:
        """Returns the calls as they are now."""
        return [copy.copy(entry) for entry in self._entries]

    def clear(self) -> None:
        """Forgets all calls."""
        self._entries.clear()

    def summary(self) -> dict[str, ModelTotal]:
        """Returns the totals by model served, of all calls that generated anything."""
        totals: dict[str, ModelTotal] = {}
        for entry in self._entries:
            if entry.model is not None and entry.usage is not None:
                _add(totals.setdefault(entry.model, ModelTotal()), entry.completed, Totals.read(entry.usage))
        return totals


def _add(total: ModelTotal, completed: bool, usage: Totals) -> None:
    total.calls += 1
    total.completed += completed
    total.input_tokens += usage.input
    total.output_tokens += usage.output
    total.cached_input_tokens += usage.cached
    total.reasoning_tokens += usage.reasoning


@lru_cache(maxsize=1024)
def fingerprint(key: str) -> str:
    """Returns what the account keeps of a key."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def now() -> datetime:
    """Returns the instant for `Entry.at`, in UTC."""
    return datetime.now(UTC)
