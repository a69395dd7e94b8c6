"""What usage costs.

Rule: Decimal throughout, and what has no price has none: it is not free. Money is computed from sums of tokens, so it can be
computed again at any time, by other prices. How a number comes about: docs/money.md.
"""

import calendar
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from itertools import groupby
from operator import attrgetter

from msgspec.structs import replace

from shared.core.money.ledger import TOKEN_CLASSES, UsageHour, UsageKey
from shared.core.money.prices import SPILLOVER, Price, PriceSheet, Use, is_batch, without_length
from shared.core.usage import TokenUsage

_MILLIONTH = -6
_MS_PER_MINUTE = Decimal(60_000)
_SMALLEST = Decimal("1e-12")
"""What a row's money is rounded to, so that sums of it are exact in any order."""
_NOTHING = Decimal(0)
_token_classes = attrgetter(*TOKEN_CLASSES)

_INPUTS = ("cached_input", "cache_write_input", "audio_input", "image_input")
_OUTPUTS = ("reasoning", "audio_output", "image_output")


def charge(price: Price, usage: TokenUsage, *, calls: int = 1, tier: str = "") -> Decimal | None:
    """The money for a usage, in the price's currency. None: the price does not cover it.

    A class of tokens without a price of its own costs what its tokens cost. A model whose price says nothing of tokens is
    billed by its other measures alone. A price of tokens alone says nothing of what told no tokens.
    """
    parts: list[Decimal | None] = []
    if price.input is not None or price.output is not None:
        parts += [_tokens(price, price.input, usage.input_tokens, usage, _INPUTS)]
        parts += [_tokens(price, price.output, usage.output_tokens, usage, _OUTPUTS)]
    if None in parts:
        return None
    measures = (
        (price.characters, Decimal(usage.characters or 0).scaleb(_MILLIONTH)),
        (price.image, Decimal(usage.images or 0)),
        (price.audio_minute, Decimal(usage.audio_ms or 0) / _MS_PER_MINUTE),
    )
    others = [amount * measured for amount, measured in measures if amount is not None and measured]
    is_by_token = parts and (usage.input_tokens or usage.output_tokens)
    if not is_by_token and not others and price.call is None and _is_something(usage):
        return None
    total = sum((part for part in (*parts, *others) if part is not None), _NOTHING) + calls * (price.call or 0)
    if is_batch(tier) and not is_batch(price.tier):
        total *= 1 - (price.batch_discount or 0)
    return total


def most(price: Price, usage: TokenUsage) -> Decimal:
    """What a call may cost at most that uses no more than this. What the price says nothing of costs nothing here."""
    if price.input is not None or price.output is not None:
        price = replace(price, input=price.input or _NOTHING, output=price.output or _NOTHING)
    return charge(price, usage) or _NOTHING


def rated(sheet: PriceSheet, hour: str, rows: Iterable[UsageHour]) -> list[UsageHour]:
    """The rows of an hour with their money, whatever they said of money before.

    An hour of provisioned throughput is shared out by use among the rows of its deployment; where nobody used it, a row of its
    own, of no client, has the whole. Usage without a price costs nothing and counts as unpriced.
    """
    on = date(int(hour[:4]), int(hour[4:6]), int(hour[6:8]))
    used = [row for row in rows if row.key.client_id or row.calls or row.rejected]  # not those that were made here
    priced = [_priced(sheet, on, row) for row in used]
    provisioned = sheet.provisioned(on)
    if not provisioned:
        return priced
    shared = [row for row in priced if row.key.deployment in provisioned and not _is_spilled_over(row)]
    idle = provisioned.keys() - {row.key.deployment for row in shared}
    return sorted(
        (
            *(row for row in priced if row.key.deployment not in provisioned or _is_spilled_over(row)),
            *_shared_out(shared, provisioned, on),
            *(_idle(hour, provisioned[deployment], on, sheet.version, priced) for deployment in idle),
        ),
        key=lambda row: row.key,
    )


def usage_of(row: UsageHour) -> TokenUsage:
    """What a row used, by class."""
    return TokenUsage(**dict(zip(TOKEN_CLASSES, _token_classes(row), strict=True)))


def _priced(sheet: PriceSheet, on: date, row: UsageHour) -> UsageHour:
    key = row.key
    use = Use(
        model=key.model, model_served=key.model_served, deployment=key.deployment, region=key.region, tier=key.tier
    )
    price = sheet.price_of(use, on)
    cost = charge(price, usage_of(row), calls=row.completed + row.client_closed, tier=key.tier) if price else None
    return replace(
        row,
        cost=_NOTHING if cost is None else _rounded(cost),
        unpriced_calls=row.metered if price is None or cost is None else _not_covered(price, row),
        price_version=sheet.version,
    )


def _not_covered(price: Price, row: UsageHour) -> int:
    """The calls whose only measure the price says nothing of, beside others that it holds for: speech by its characters."""
    return 0 if price.characters is not None or price.call is not None or not row.characters else row.counted


def _is_spilled_over(row: UsageHour) -> bool:
    return without_length(row.key.tier) == SPILLOVER


def _shared_out(rows: Sequence[UsageHour], provisioned: Mapping[str, Price], on: date) -> Iterable[UsageHour]:
    """The rows with their shares of their deployments' hours, which add up to them exactly."""
    for deployment, group in groupby(sorted(rows, key=lambda row: row.key.deployment), lambda row: row.key.deployment):
        using = list(group)
        weights = _weights(using)
        whole, left = _hourly(provisioned[deployment], on), sum(weights)
        for row, weight in zip(using, weights, strict=True):
            share = whole if weight == left else _rounded(whole * weight / left)
            yield replace(row, cost=share, unpriced_calls=0)
            whole, left = whole - share, left - weight


def _weights(rows: Sequence[UsageHour]) -> list[Decimal]:
    """What they would cost by token; where that is not known of all, their tokens; where there are none, their calls."""
    if all(row.cost and not row.unpriced_calls for row in rows):
        return [row.cost for row in rows]
    tokens = [Decimal(row.input_tokens + row.output_tokens) for row in rows]
    return tokens if any(tokens) else [Decimal(row.calls) for row in rows]


def _idle(hour: str, price: Price, on: date, version: str, rows: Sequence[UsageHour]) -> UsageHour:
    key = UsageKey(
        client_id="", cost_center="", operation="", model=price.model, model_served="", deployment=price.deployment
    )
    watermark = next((row.watermark for row in rows), None)
    return UsageHour(hour=hour, key=key, cost=_hourly(price, on), price_version=version, watermark=watermark)


def _hourly(price: Price, on: date) -> Decimal:
    hours = 24 * calendar.monthrange(on.year, on.month)[1]
    return _rounded((price.provisioned_month or _NOTHING) / hours)


def _tokens(
    price: Price, standard: Decimal | None, count: int | None, usage: TokenUsage, classes: Sequence[str]
) -> Decimal | None:
    """The money for one direction's tokens, each by its class. A token that is of two classes counts as the first of them."""
    left, total = count or 0, _NOTHING
    for name in classes:
        part = min(getattr(usage, f"{name}_tokens") or 0, left)
        own = getattr(price, name)
        amount = standard if own is None else own
        if part and amount is None:
            return None
        total += part * (amount or _NOTHING)
        left -= part
    if left and standard is None:
        return None
    return (total + left * (standard or _NOTHING)).scaleb(_MILLIONTH)


def _is_something(usage: TokenUsage) -> bool:
    return any(getattr(usage, name) for name in TOKEN_CLASSES)


def _rounded(money: Decimal) -> Decimal:
    exponent = money.as_tuple().exponent
    return money.quantize(_SMALLEST) if isinstance(exponent, int) and exponent < -12 else money
