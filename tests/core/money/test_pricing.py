"""What usage costs."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.core.configuration import parse
from shared.core.document_problems import ConfigurationInvalid
from shared.core.money.ledger import UsageHour, UsageKey
from shared.core.money.prices import (
    NO_PRICES,
    Price,
    PriceSheet,
    ShippedPrices,
    Use,
    sheet_of,
    with_length,
    without_length,
)
from shared.core.money.pricing import charge, most, rated
from shared.core.usage import TokenUsage
from shared.usage.shipped_prices import shipped_prices

OLD = Price(model="gpt-4o", input=Decimal(5), output=Decimal(15))
NEW = Price(
    model="gpt-4o", since=date(2026, 7, 1), input=Decimal("2.5"), cached_input=Decimal("1.25"), output=Decimal(10)
)
SNAPSHOT = Price(model="gpt-4o-2024-11-20", input=Decimal(1), output=Decimal(1))
IMAGE = Price(model="dall-e-3", tier="hd/1024x1024", image=Decimal("0.08"))
EVERY = Price(
    model="m",
    input=Decimal(1),
    cached_input=Decimal(2),
    cache_write_input=Decimal(3),
    audio_input=Decimal(4),
    image_input=Decimal(5),
    output=Decimal(6),
    reasoning=Decimal(7),
    audio_output=Decimal(8),
    image_output=Decimal(9),
)
MILLION = 1_000_000

CHARGES: dict[str, tuple[Price, TokenUsage, str | None]] = {
    "input and output": (NEW, TokenUsage(input_tokens=MILLION, output_tokens=MILLION // 2), "7.5"),
    "cached input costs its own": (
        NEW, TokenUsage(input_tokens=MILLION, cached_input_tokens=400_000, output_tokens=0), "2.0",
    ),
    "reasoning is output": (NEW, TokenUsage(input_tokens=0, output_tokens=100, reasoning_tokens=90), "0.001"),
    "a class without a price of its own costs what tokens cost": (
        NEW, TokenUsage(input_tokens=100, audio_input_tokens=100, output_tokens=0), "0.00025",
    ),
    "every class at its own price": (
        EVERY,
        TokenUsage(
            input_tokens=5 * MILLION, cached_input_tokens=MILLION, cache_write_input_tokens=MILLION,
            audio_input_tokens=MILLION, image_input_tokens=MILLION, output_tokens=4 * MILLION, reasoning_tokens=MILLION,
            audio_output_tokens=MILLION, image_output_tokens=MILLION,
        ),
        str(1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9),
    ),
    "a token of two classes counts once": (
        EVERY, TokenUsage(input_tokens=MILLION, cached_input_tokens=MILLION, audio_input_tokens=MILLION), "2",
    ),
    "nothing used": (NEW, TokenUsage(), "0"),
    "an embedding has input only": (
        Price(model="e", input=Decimal("0.02")), TokenUsage(input_tokens=MILLION), "0.02",
    ),
    "images by the piece, whatever tokens they say": (
        IMAGE, TokenUsage(images=3, input_tokens=50, output_tokens=4000), "0.24",
    ),
    "audio by the minute": (Price(model="w", audio_minute=Decimal("0.006")), TokenUsage(audio_ms=90_000), "0.009"),
    "characters by the million": (Price(model="t", characters=Decimal(15)), TokenUsage(characters=2_000), "0.03"),
    "by the call": (Price(model="c", call=Decimal("0.01")), TokenUsage(input_tokens=7), "0.01"),
    "output without a price": (Price(model="e", input=Decimal(1)), TokenUsage(input_tokens=1, output_tokens=1), None),
    "cached input alone has a price": (
        Price(model="e", cached_input=Decimal(1), output=Decimal(1)), TokenUsage(input_tokens=2, cached_input_tokens=1), None,
    ),
    "another measure than it is priced by": (IMAGE, TokenUsage(input_tokens=1), None),
    "characters, where tokens are priced": (NEW, TokenUsage(characters=2_000), None),
    "sound, where tokens are priced": (NEW, TokenUsage(audio_ms=90_000, input_tokens=0), None),
    "images, where tokens are priced": (NEW, TokenUsage(images=1), None),
    "free is a price": (Price(model="f", input=Decimal(0), output=Decimal(0)), TokenUsage(input_tokens=9), "0"),
}  # fmt: skip


@pytest.mark.parametrize(("price", "usage", "expected"), CHARGES.values(), ids=CHARGES.keys())
def test_usage_is_charged_by_class_and_a_gap_is_no_price(price: Price, usage: TokenUsage, expected: str | None) -> None:
    """Guards that unknown is not zero."""
    assert charge(price, usage) == (None if expected is None else Decimal(expected))


def test_a_batch_costs_its_own_price_or_a_part_less() -> None:
    usage = TokenUsage(input_tokens=MILLION, output_tokens=0)
    assert charge(replace(NEW, batch_discount=Decimal("0.5")), usage, tier="batch") == Decimal("1.25")
    assert charge(replace(NEW, batch_discount=Decimal("0.5")), usage) == Decimal("2.5")
    assert charge(NEW, usage, tier="batch") == Decimal("2.5")
    own = replace(NEW, tier="batch", input=Decimal(1), batch_discount=Decimal("0.5"))
    assert charge(own, usage, tier="batch") == 1


def sheet(*prices: Price, shipped: ShippedPrices = NO_PRICES, currency: str = "USD") -> PriceSheet:
    return sheet_of(prices, shipped, currency)


def found(prices: PriceSheet, on: date = date(2026, 7, 1), **use: str) -> Price | None:
    return prices.price_of(Use(**({"model": "gpt-4o"} | use)), on)


def test_the_price_is_the_one_in_force_on_the_day() -> None:
    assert found(sheet(OLD, NEW), date(2026, 6, 30)) is OLD
    assert found(sheet(NEW, OLD), date(2026, 7, 1)) is NEW
    assert found(sheet(NEW), date(2026, 6, 30)) is None


def test_the_model_that_served_goes_before_the_one_that_was_asked() -> None:
    """Guards that a router's and an alias's calls cost what served them costs."""
    mini = Price(model="gpt-5-mini", input=Decimal(1))
    assert found(sheet(OLD, SNAPSHOT), model_served="gpt-4o-2024-11-20") is SNAPSHOT
    assert found(sheet(OLD), model="chat", model_served="gpt-4o-2024-11-20") is OLD, (
        "a snapshot costs what its model does"
    )
    assert found(sheet(OLD, mini), model="model-router", model_served="gpt-5-mini-2025-08-07") is mini
    assert found(sheet(OLD), model_served="gpt-9") is OLD
    assert found(sheet(OLD), model="o3", model_served="o3-2025-04-16") is None, "no price is not a price of nothing"
    assert found(sheet(Price(model="gpt-4")), model="gpt-4-0613") is not None


def test_a_narrower_price_goes_before_a_wider_one() -> None:
    sweden = replace(NEW, region="swedencentral")
    east = replace(NEW, deployment="east")
    flex = replace(NEW, tier="flex")
    both = sheet(NEW, sweden, east, flex)
    assert found(both, region="Sweden Central") is sweden
    assert found(both, region="Sweden Central", deployment="east") is east
    assert found(both, tier="flex") is flex
    assert found(both, tier="priority") is None, "what it costs more is not known"
    assert found(both, region="westus") is NEW
    assert found(sheet(Price(deployment="east")), deployment="east") is not None


def test_configured_prices_go_before_those_that_are_shipped() -> None:
    shipped = ShippedPrices(currency="USD", prices=(SNAPSHOT, Price(model="o3")))
    prices = sheet(OLD, shipped=shipped)
    assert found(prices, model_served="gpt-4o-2024-11-20") is OLD
    assert found(prices, model="o3") == Price(model="o3")


def test_a_price_in_another_currency_is_not_used() -> None:
    euros = replace(NEW, currency="EUR")
    shipped = ShippedPrices(currency="USD", prices=(OLD,))
    assert found(sheet(euros, shipped=shipped)) is OLD
    assert found(sheet(euros, shipped=shipped, currency="EUR")) is euros
    assert found(sheet(shipped=shipped, currency="EUR")) is None


def test_the_version_changes_with_every_price() -> None:
    assert sheet(NEW).version == sheet(NEW).version
    assert (
        len({sheet(NEW).version, sheet(OLD).version, sheet(NEW, OLD).version, sheet(NEW, currency="EUR").version}) == 4
    )


def row(deployment: str = "east", **fields: Any) -> UsageHour:
    key = UsageKey(
        client_id=fields.pop("client_id", "blue"),
        cost_center="",
        operation="chat.completions",
        model=fields.pop("model", "gpt-4o"),
        model_served="",
        deployment=deployment,
        tier=fields.pop("tier", ""),
    )
    return UsageHour(**({"hour": "2026111512", "key": key, "calls": 1, "completed": 1, "provider": 1} | fields))


def test_rows_are_rated_and_what_has_no_price_is_counted() -> None:
    """Guards that a price gap is a visible line."""
    prices = sheet(NEW)
    known, unknown, silent = rated(
        prices,
        "2026111512",
        [
            row(input_tokens=MILLION),
            row(model="o3", input_tokens=5, calls=3, provider=3),
            row(provider=0, usage_unknown=1),
        ],
    )
    assert (known.cost, known.unpriced_calls, known.price_version) == (Decimal("2.5"), 0, prices.version)
    assert (unknown.cost, unknown.unpriced_calls, unknown.input_tokens) == (0, 3, 5)
    assert (silent.cost, silent.unpriced_calls) == (0, 0)


def test_speech_that_tells_no_tokens_is_unpriced_beside_speech_that_does() -> None:
    """Guards that gpt-4o-mini-tts, whose shipped price is by token, is not free where only characters are known."""
    silent = row(model="gpt-4o-mini-tts", characters=2_000, provider=0, counted=1)
    both = row(
        model="gpt-4o-mini-tts", calls=3, completed=3, provider=1, counted=2, characters=2_000,
        input_tokens=MILLION, output_tokens=MILLION, audio_output_tokens=MILLION,
    )  # fmt: skip
    rows = rated(sheet(shipped=shipped_prices()), "2026111512", [silent, both])
    assert [(each.cost, each.unpriced_calls) for each in rows] == [(0, 1), (Decimal("12.6"), 2)]
    [by_character] = rated(sheet(Price(model="gpt-4o-mini-tts", characters=Decimal(15))), "2026111512", [silent])
    assert (by_character.cost, by_character.unpriced_calls) == (Decimal("0.03"), 0)


def test_rating_again_by_other_prices_changes_money_alone() -> None:
    rows = [row(input_tokens=MILLION, output_tokens=MILLION), row(model="o3", input_tokens=MILLION)]
    first = rated(sheet(OLD), "2026111512", rows)
    again = rated(sheet(NEW, Price(model="o3", input=Decimal(2))), "2026111512", first)
    assert [each.cost for each in first] == [20, 0]
    assert [each.cost for each in again] == [Decimal("12.5"), 2]
    money = {"cost": Decimal(0), "unpriced_calls": 0, "price_version": ""}
    assert [replace(each, **money) for each in again] == [replace(each, **money) for each in rows]


PROVISIONED = Price(deployment="ptu", provisioned_month=Decimal(7200))
AN_HOUR = Decimal(10)
"""November has 720."""


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=6))
def test_an_hour_of_provisioned_throughput_is_shared_out_to_the_last_digit(tokens: list[int]) -> None:
    rows = [row("ptu", client_id=f"c{number}", input_tokens=count) for number, count in enumerate(tokens)]
    shared = rated(sheet(PROVISIONED, NEW), "2026111512", rows)
    assert sum(each.cost for each in shared) == AN_HOUR
    assert all(each.cost >= 0 and not each.unpriced_calls for each in shared)
    if any(tokens):
        assert [each.cost == 0 for each in shared] == [not count for count in tokens]


def test_shares_follow_what_the_tokens_would_cost_and_else_the_tokens() -> None:
    rows = [row("ptu", client_id="a", output_tokens=3 * MILLION), row("ptu", client_id="b", input_tokens=4 * MILLION)]
    by_price = rated(sheet(PROVISIONED, NEW), "2026111512", rows)
    assert [each.cost for each in by_price] == [Decimal("7.5"), Decimal("2.5")]
    by_tokens = rated(sheet(PROVISIONED), "2026111512", rows)
    assert [round(each.cost, 6) for each in by_tokens] == [Decimal("4.285714"), Decimal("5.714286")]


def test_an_hour_that_nobody_used_is_a_line_of_its_own_and_is_not_rated_twice() -> None:
    prices = sheet(PROVISIONED, NEW)
    idle, used = rated(prices, "2026111512", [row("east", input_tokens=MILLION)])
    assert (idle.key.client_id, idle.key.deployment, idle.cost, idle.calls) == ("", "ptu", AN_HOUR, 0)
    assert used.cost == Decimal("2.5")
    assert rated(prices, "2026111512", [idle, used]) == [idle, used]
    assert rated(sheet(NEW), "2026111512", [idle, used]) == [replace(used, price_version=sheet(NEW).version)]


def test_what_spilled_over_is_charged_by_token_beside_the_hour_of_provisioned_throughput() -> None:
    """Guards that what Azure bills twice, capacity and tokens, is not lost once."""
    prices = sheet(PROVISIONED, NEW)
    over = row("ptu", tier="spillover", input_tokens=MILLION)
    within = row("ptu", client_id="b", input_tokens=MILLION)
    shared, spilled = rated(prices, "2026111512", [over, within])
    assert (shared.key, shared.cost) == (within.key, AN_HOUR)
    assert (spilled.key, spilled.cost) == (over.key, Decimal("2.5"))
    idle, spilled = rated(prices, "2026111512", [over])
    assert (idle.key.client_id, idle.cost, spilled.cost) == ("", AN_HOUR, Decimal("2.5"))


def test_the_shipped_sheet_charges_a_long_call_more_and_a_cut_price_from_its_day_on() -> None:
    prices = sheet(shipped=shipped_prices())
    usage = TokenUsage(input_tokens=MILLION, output_tokens=MILLION)
    for tier, cost in (
        ("", "17.5"),
        ("long", "27.5"),
        ("batch", "8.75"),
        ("batch/long", "13.75"),
        ("flex/long", "13.75"),
    ):
        price = found(prices, model="gpt-5.4-2026-03-05", tier=tier)
        assert price
        assert charge(price, usage, tier=tier) == Decimal(cost), tier
    for day, cost in ((date(2026, 7, 29), 1), (date(2026, 7, 30), Decimal("0.2"))):
        price = found(prices, day, model="gpt-5.6-luna")
        assert price
        assert price.input == cost


def test_a_long_call_costs_what_is_priced_for_long_ones_else_what_others_do() -> None:
    """Guards that a step of the price is not passed over, and that what has no step is priced as ever."""
    long, batch = replace(NEW, tier="long"), replace(NEW, tier="batch")
    flex, flex_long = replace(NEW, tier="flex"), replace(NEW, tier="flex/long")
    assert found(sheet(NEW, long), tier="long") is long
    assert found(sheet(NEW, long)) is NEW
    assert found(sheet(NEW), tier="long") is NEW
    assert found(sheet(NEW, long, batch), tier="batch/long") is long
    assert found(sheet(NEW, long, flex, flex_long), tier="flex/long") is flex_long
    assert found(sheet(NEW, long, flex), tier="flex/long") is flex
    assert found(sheet(NEW, long), tier="flex/long") is None, "nothing else holds for flex"
    half = replace(long, batch_discount=Decimal("0.5"))
    assert charge(half, TokenUsage(input_tokens=MILLION, output_tokens=0), tier="batch/long") == Decimal("1.25")


@pytest.mark.parametrize(
    ("tier", "tokens", "whole"),
    [("", 272_000, ""), ("", 272_001, "long"), ("flex", 300_000, "flex/long"), ("flex", None, "flex"), ("", None, "")],
)
def test_a_call_is_long_above_the_step(tier: str, tokens: int | None, whole: str) -> None:
    assert with_length(tier, tokens) == whole
    assert without_length(whole) == tier


def test_what_a_call_may_cost_at_most_is_never_below_what_it_costs() -> None:
    assert most(NEW, TokenUsage(input_tokens=1_000, output_tokens=1_000)) == Decimal("0.0125")
    assert most(IMAGE, TokenUsage(input_tokens=1_000, output_tokens=1_000, images=2)) == Decimal("0.16")
    assert most(replace(NEW, output=None), TokenUsage(input_tokens=1_000, output_tokens=1_000)) == Decimal("0.0025")
    assert most(Price(model="c", call=Decimal(1)), TokenUsage(input_tokens=9)) == 1


def test_prices_stand_in_the_document() -> None:
    text = '[[prices]]\nmodel = "gpt-4o"\nsince = 2026-07-01\ninput = 2.5\noutput = 10\n'
    configuration = parse(text, {}, ShippedPrices(currency="USD", prices=(Price(model="o3"),)))
    price = found(configuration.prices)
    assert price
    assert (price.since, price.input, price.output) == (date(2026, 7, 1), Decimal("2.5"), Decimal(10))
    assert found(configuration.prices, model="o3") == Price(model="o3")
    assert found(parse("shipped_prices = false", {}, shipped_prices()).prices) is None


WRONG = {
    "input": '[[prices]]\nmodel = "gpt-4o"\ninput = -1\n',
    "model": "[[prices]]\ninput = 1\n",
    "deployment": '[[prices]]\nmodel = "m"\nprovisioned_month = 1\n',
    "batch_discount": '[[prices]]\nmodel = "m"\nbatch_discount = 2\n',
    "currency": 'currency = "euro"\n',
}


@pytest.mark.parametrize(("name", "text"), WRONG.items(), ids=WRONG.keys())
def test_a_price_that_cannot_be_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=name):
        parse(text, {})


def test_the_shipped_sheet_says_whence_it_is_and_prices_each_model_once() -> None:
    shipped = shipped_prices()
    assert "check" in shipped.note
    assert shipped.source
    assert date.fromisoformat(shipped.checked)
    assert len({(price.model, price.tier, price.since) for price in shipped.prices}) == len(shipped.prices) > 100
    prices = sheet(shipped=shipped)
    for model in ("gpt-4o-2024-11-20", "gpt-35-turbo", "text-embedding-3-small", "whisper-1", "gpt-image-1", "o4-mini"):
        assert found(prices, model="deployment-of-ours", model_served=model), model
    made = TokenUsage(images=2)
    for tier, cost in (("hd/1024x1024", "0.176"), ("standard/1024x1024", "0.088")):
        price = found(prices, model="dall-e-3", tier=tier)
        assert price
        assert charge(price, made, tier=tier) == Decimal(cost)
