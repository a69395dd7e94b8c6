"""Call ids: the layout of RFC 9562 §5.7, their order, and the hour in them."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.call_ids import first_at, hour_of, mint, opened_at

INSTANTS = st.datetimes(datetime(1970, 1, 2), datetime(2600, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - has one
ENTROPY = st.binary(min_size=10, max_size=10)

NO_IDS = {
    "empty": "",
    "a provider's": "chatcmpl-1",
    "a random UUID": "0b2f9a4e-6f1d-4c8e-9a52-1d6f0e1b7c11",
    "in capitals": "019AA5E5-3C7A-7000-8000-000000000000",
    "without hyphens": "019aa5e53c7a70008000000000000000",
    "in braces": "{019aa5e5-3c7a-7000-8000-000000000000}",
    "another variant": "019aa5e5-3c7a-7000-0000-000000000000",
    "after the year 9999": "ffffffff-ffff-7000-8000-000000000000",
    "a path": "../../019aa5e5-3c7a-7000-8000-000000000000",
}


def test_the_example_of_the_rfc() -> None:
    """RFC 9562 appendix A.6: 2022-02-22 14:22:22 -05:00, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F."""
    instant = datetime(2022, 2, 22, 14, 22, 22, tzinfo=timezone(timedelta(hours=-5)))
    entropy = ((0xCC3 << 62) | 0x18C4DC0C0C07398F).to_bytes(10)
    assert mint(instant, entropy) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(INSTANTS, ENTROPY)
def test_an_id_is_a_uuid_of_version_7_and_the_rfcs_variant(instant: datetime, entropy: bytes) -> None:
    uuid = UUID(mint(instant, entropy))
    assert uuid.version == 7
    assert uuid.variant == "specified in RFC 4122"


@given(INSTANTS, ENTROPY)
def test_an_id_tells_the_millisecond_and_the_hour_of_its_call(instant: datetime, entropy: bytes) -> None:
    """Guards that everything about a call is found from its id."""
    call_id = mint(instant, entropy)
    assert opened_at(call_id) == instant.replace(microsecond=instant.microsecond // 1000 * 1000)
    assert hour_of(call_id) == f"{instant.year:04}{instant:%m%d%H}"


@given(INSTANTS, ENTROPY, ENTROPY, st.integers(1, 10**9))
def test_ids_sort_by_time(instant: datetime, one: bytes, other: bytes, later_ms: int) -> None:
    assert mint(instant, one) < mint(instant + timedelta(milliseconds=later_ms), other)


def test_other_entropy_is_another_id() -> None:
    instant = datetime(2026, 11, 21, tzinfo=UTC)
    ids = {mint(instant, (1 << bit).to_bytes(10)) for bit in range(74)}
    assert len(ids) == 74


@pytest.mark.parametrize("text", NO_IDS.values(), ids=NO_IDS.keys())
def test_a_text_that_is_no_call_id_raises(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        opened_at(text)


@given(INSTANTS, ENTROPY)
def test_a_span_of_time_is_a_range_of_ids(instant: datetime, entropy: bytes) -> None:
    whole = instant.replace(microsecond=instant.microsecond // 1000 * 1000)
    assert first_at(whole) <= mint(instant, entropy) < first_at(whole + timedelta(milliseconds=1))
