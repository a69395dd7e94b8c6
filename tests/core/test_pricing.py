"""What usage costs."""

from datetime import date
from decimal import Decimal

import pytest

from shared.core.configuration import Price, parse
from shared.core.document_problems import ConfigurationInvalid
from shared.core.pricing import charge, most, price_of
from shared.core.usage import TokenUsage

OLD = Price(model="gpt-4o", input=Decimal(5), output=Decimal(15))
NEW = Price(
    model="gpt-4o", since=date(2026, 7, 1), input=Decimal("2.5"), cached_input=Decimal("1.25"), output=Decimal(10)
)
SNAPSHOT = Price(model="gpt-4o-2024-11-20", input=Decimal(1), output=Decimal(1))

CHARGES = {
    "input and output": (TokenUsage(input_tokens=1_000_000, output_tokens=500_000), Decimal("7.5")),
    "cached input costs its own": (
        TokenUsage(input_tokens=1_000_000, cached_input_tokens=400_000, output_tokens=0), Decimal("2.0"),
    ),
    "reasoning is output": (TokenUsage(input_tokens=0, output_tokens=100, reasoning_tokens=90), Decimal("0.001")),
    "audio without a price of its own costs what tokens cost": (
        TokenUsage(input_tokens=100, audio_input_tokens=100, output_tokens=0), Decimal("0.00025"),
    ),
    "unknown classes cost nothing": (TokenUsage(), Decimal(0)),
}  # fmt: skip


@pytest.mark.parametrize(("usage", "expected"), CHARGES.values(), ids=CHARGES.keys())
def test_usage_is_charged_by_class(usage: TokenUsage, expected: Decimal) -> None:
    assert charge(NEW, usage) == expected


def test_other_measures_have_prices_too() -> None:
    price = Price(model="m", image=Decimal("0.04"), audio_minute=Decimal("0.006"), characters=Decimal(15))
    assert charge(price, TokenUsage(images=3)) == Decimal("0.12")
    assert charge(price, TokenUsage(audio_ms=90_000)) == Decimal("0.009")
    assert charge(price, TokenUsage(characters=2_000)) == Decimal("0.03")


def test_the_price_is_the_one_in_force_on_the_day() -> None:
    prices = (OLD, NEW)
    assert price_of(prices, ["gpt-4o"], date(2026, 6, 30)) is OLD
    assert price_of(prices, ["gpt-4o"], date(2026, 7, 1)) is NEW


def test_the_model_that_served_goes_before_the_one_that_was_asked() -> None:
    assert price_of((OLD, SNAPSHOT), ["gpt-4o-2024-11-20", "gpt-4o"], date(2026, 1, 1)) is SNAPSHOT
    assert price_of((OLD,), ["gpt-4o-2024-11-20", "gpt-4o"], date(2026, 1, 1)) is OLD
    assert price_of((OLD,), [None, "o3"], date(2026, 1, 1)) is None, "no price is not a price of nothing"


def test_what_a_call_may_cost_at_most_is_never_below_what_it_costs() -> None:
    assert most(NEW, 4_000, 1_000) == Decimal("0.0125")


def test_prices_stand_in_the_document() -> None:
    text = '[[prices]]\nmodel = "gpt-4o"\nsince = 2026-07-01\ninput = 2.5\noutput = 10\n'
    (price,) = parse(text, {}).prices
    assert (price.since, price.input, price.output) == (date(2026, 7, 1), Decimal("2.5"), Decimal(10))
    with pytest.raises(ConfigurationInvalid, match="input"):
        parse('[[prices]]\nmodel = "gpt-4o"\ninput = -1\n', {})
