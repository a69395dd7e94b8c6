"""What usage costs.

Rule: Decimal throughout, and what has no price has none: it is not free.
"""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from shared.core.configuration import Price
from shared.core.usage import TokenUsage

_MILLION = Decimal(1_000_000)
_MS_PER_MINUTE = Decimal(60_000)


def price_of(prices: Sequence[Price], names: Sequence[str | None], on: date) -> Price | None:
    """The price in force on a day for the first of these names that has one: the model that served before the one asked."""
    for name in names:
        in_force = [price for price in prices if price.model == name and price.since <= on]
        if in_force:
            return max(in_force, key=lambda price: price.since)
    return None


def charge(price: Price, usage: TokenUsage) -> Decimal:
    """The money for a usage, in the price's currency. A class without a price of its own costs what its tokens cost."""
    cached = usage.cached_input_tokens or 0
    heard, spoken = usage.audio_input_tokens or 0, usage.audio_output_tokens or 0
    per_million = (
        ((usage.input_tokens or 0) - cached - heard) * price.input
        + cached * _or(price.cached_input, price.input)
        + heard * _or(price.audio_input, price.input)
        + ((usage.output_tokens or 0) - spoken) * price.output
        + spoken * _or(price.audio_output, price.output)
        + (usage.characters or 0) * price.characters
    )
    return (
        per_million / _MILLION
        + (usage.images or 0) * price.image
        + (usage.audio_ms or 0) / _MS_PER_MINUTE * price.audio_minute
    )


def most(price: Price, body_bytes: int, most_output: int) -> Decimal:
    """What a call may cost at most, by a token for each four bytes of its body and its most output."""
    estimate = TokenUsage(input_tokens=-(-body_bytes // 4), output_tokens=most_output)
    return charge(price, estimate)


def _or(price: Decimal | None, default: Decimal) -> Decimal:
    return default if price is None else price
