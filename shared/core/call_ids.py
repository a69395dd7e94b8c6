"""Call ids: UUIDv7 (RFC 9562 §5.7), minted by us and never taken from a provider.

Rule: everything stored about a call is found from its id alone. The id holds the instant at which the call was opened,
so the ledger's partition and the archive's folder can be computed from it by whoever holds it.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from uuid import UUID

_VERSION_7 = 0x7 << 76
_VARIANT_RFC = 0b10 << 62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)  # whole ones: a float of seconds may be one off


def mint(opened_at: datetime, entropy: bytes) -> str:
    """A new call id: `opened_at` to the millisecond, then 74 of the bits of `entropy` (10 bytes)."""
    millis = (opened_at - _EPOCH) // _MILLISECOND
    random = int.from_bytes(entropy[:10])
    high_12, low_62 = (random >> 62) & 0xFFF, random & ((1 << 62) - 1)
    return str(UUID(int=(millis << 80) | _VERSION_7 | (high_12 << 64) | _VARIANT_RFC | low_62))


@lru_cache(maxsize=4096)  # each sink asks anew, of the calls of one batch
def opened_at(call_id: str) -> datetime:
    """The UTC instant in a call id. Raises ValueError where it is not a UUIDv7 in its canonical text form."""
    parsed = UUID(call_id)
    if parsed.version != 7 or str(parsed) != call_id:
        raise ValueError(f"not a call id: {call_id!r}")
    try:
        return _EPOCH + (parsed.int >> 80) * _MILLISECOND
    except OverflowError as error:
        raise ValueError(f"not a call id of this era: {call_id!r}") from error


def first_at(instant: datetime) -> str:
    """What sorts before every id minted in this millisecond or later, and after every id minted before it."""
    digits = f"{max((instant - _EPOCH) // _MILLISECOND, 0):012x}"
    return f"{digits[:8]}-{digits[8:]}"


@lru_cache(maxsize=4096)  # likewise
def hour_of(call_id: str) -> str:
    """The UTC hour in which a call was opened, as `YYYYMMDDHH`: the ledger's partition."""
    return opened_at(call_id).strftime("%Y%m%d%H")
