"""What a row of usage was charged for, measure by measure: so many input tokens at such a price, so many images, ...

Rule: the parts add up to the row's money exactly, or it is one charge as a whole. A measure without a price is shown, with none.
"""

from collections.abc import Iterator
from decimal import Decimal

import msgspec

from shared.core.money.ledger import UsageHour
from shared.core.money.prices import Price, PriceSheet, Use, is_batch
from shared.core.reports.usage_report import beginning_of

_MILLION = Decimal(1_000_000)
_NOTHING = Decimal(0)
_ROUNDING = Decimal("1e-9")
"""What a day's rows may have been rounded by: each hour's money is rounded to 1e-12."""
_FINEST = Decimal("1e-12")

_TOKENS = {
    "input_tokens": ("cached_input", "cache_write_input", "audio_input", "image_input", "input"),
    "output_tokens": ("reasoning", "audio_output", "image_output", "output"),
}
"""By what they are counted in: the classes, the first that a token is of; the last has the rest."""


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """One measure of one row."""

    measure: str
    """`input`, `cached_input`, ..., `image`, `audio`, `characters`, `call`; `usage`: all of them; `unpriced`: calls of the row
    that have no price; `unknown`: calls of which nobody said."""
    quantity: Decimal
    unit: str
    """What the quantity is counted in."""
    per: int = 1
    """How many of them the price is for."""
    unit_price: Decimal | None
    """None: there is no price."""
    cost: Decimal
    """What it is charged: `unit_price` for `quantity / per`, and what rounding left over."""

    @property
    def pricing_quantity(self) -> Decimal:
        """The quantity in units of the price."""
        return (self.quantity / self.per).quantize(_FINEST).normalize()

    @property
    def list_cost(self) -> Decimal:
        """The price times the quantity."""
        return (self.unit_price or _NOTHING) * self.pricing_quantity


def charges_of(sheet: PriceSheet, row: UsageHour) -> list[Charge]:
    """The charges of a day's row, by the prices of that day."""
    key = row.key
    use = Use(
        model=key.model, model_served=key.model_served, deployment=key.deployment, region=key.region, tier=key.tier
    )
    price = sheet.price_of(use, beginning_of(row.hour).date())
    if row.unpriced_calls and not row.cost:
        price = None
    parts = list(_parts(price, row))
    left = row.cost - sum((part.cost for part in parts), _NOTHING)
    if abs(left) > _ROUNDING:
        parts = [_whole(row)]
    elif left and parts:
        largest = max(range(len(parts)), key=lambda index: parts[index].cost)
        parts[largest] = msgspec.structs.replace(parts[largest], cost=parts[largest].cost + left)
    if row.unpriced_calls and row.cost:
        parts.append(_calls("unpriced", row.unpriced_calls))
    if row.usage_unknown:
        parts.append(_calls("unknown", row.usage_unknown))
    return parts


def _calls(measure: str, count: int) -> Charge:
    """Calls that cost nothing because nobody knows what they cost."""
    return Charge(measure=measure, quantity=Decimal(count), unit="Requests", unit_price=None, cost=_NOTHING)


def _parts(price: Price | None, row: UsageHour) -> Iterator[Charge]:
    has_tokens = price is None or price.input is not None or price.output is not None
    if has_tokens:
        for counter, classes in _TOKENS.items():
            yield from _tokens(price, row, counter, classes)
    amounts = (
        ("image", "image", Decimal(row.images), "Images", 1),
        ("audio", "audio_minute", Decimal(row.audio_ms) / 1000, "Seconds", 60),
        ("characters", "characters", Decimal(row.characters), "Characters", 1_000_000),
        ("call", "call", Decimal(row.completed + row.client_closed), "Requests", 1),
    )
    for measure, name, quantity, unit, per in amounts:
        amount = getattr(price, name) if price else None
        if quantity and (amount is not None or (price is None and measure != "call")):
            yield _charge(price, row, measure, quantity, unit, per, amount)


def _tokens(price: Price | None, row: UsageHour, counter: str, classes: tuple[str, ...]) -> Iterator[Charge]:
    left: int = getattr(row, counter)
    *parts, rest = classes
    standard = getattr(price, rest) if price else None
    for name in parts:
        own = getattr(price, name) if price else None
        count = min(getattr(row, f"{name}_tokens"), left)
        if count:
            amount = standard if own is None else own
            yield _charge(price, row, name, Decimal(count), "Tokens", 1_000_000, amount)
        left -= count
    if left:
        yield _charge(price, row, rest, Decimal(left), "Tokens", 1_000_000, standard)


def _charge(
    price: Price | None, row: UsageHour, measure: str, quantity: Decimal, unit: str, per: int, amount: Decimal | None
) -> Charge:
    if price and amount is not None and is_batch(row.key.tier) and not is_batch(price.tier):
        amount *= 1 - (price.batch_discount or 0)
    charge = Charge(measure=measure, quantity=quantity, unit=unit, per=per, unit_price=amount, cost=_NOTHING)
    return msgspec.structs.replace(charge, cost=charge.list_cost)


def _whole(row: UsageHour) -> Charge:
    """A share of provisioned throughput, or what was charged by prices that are no longer these."""
    return Charge(measure="usage", quantity=Decimal(1), unit="Units", unit_price=row.cost, cost=row.cost)
