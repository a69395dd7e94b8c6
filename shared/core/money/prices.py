"""Prices as they are written, and a sheet of them as they are looked up.

Rule: a price that is not written is unknown, which is not nothing. What is free says 0.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import lru_cache, partial

import msgspec

STANDARD_TIERS = frozenset({"auto", "default", "standard"})
"""Service tiers that are none: a record leaves them out."""
TRAINING = "training"
"""Tokens that a model was trained on, not asked with: the input of a fine-tuning job."""
SEPARATE_TIERS = frozenset({"flex", "priority", TRAINING})
"""Tiers that no other price holds for. A batch has a discount, and images may be priced by their tokens."""
BATCH = "batch"
SPILLOVER = "spillover"
"""Served beside the deployment of provisioned throughput that was asked, and so charged by token."""
LONG = "long"
"""What a tier ends with where the call's input was long: the whole of such a call costs more, on the models that have a step."""
LONG_ABOVE = 272_000
"""Tokens of input of one call: OpenAI's step (https://developers.openai.com/api/docs/pricing)."""

_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{4})$")
_NOT_IN_REGIONS = str.maketrans("", "", " -_")


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a model costs from a day on: money for a million tokens unless it says otherwise."""

    model: str = ""
    """The model that serves (`gpt-4o-2024-11-20`, or `gpt-4o` for all its snapshots), or the one that clients ask for. May be
    left out where `deployment` is given."""
    deployment: str = ""
    """The deployment, by its name here, that it holds for; default: all."""
    region: str = ""
    """The region that it holds for, such as `swedencentral`; default: all."""
    tier: str = ""
    """What else it holds for: `batch`, `flex`, `priority`, `training` or `spillover`; of images quality and size, `hd/1024x1024`.
    Default: any but `flex`, `priority` and `training`. With `long`, or `flex/long`, only for calls of more than 272,000 tokens of
    input."""
    currency: str = ""
    """Default: the configuration's. A price in another currency is not used."""
    since: date = date.min
    """The first day (UTC) that it holds for; until the next price of the same kind."""
    input: Decimal | None = None
    cached_input: Decimal | None = None
    """Default: as input."""
    cache_write_input: Decimal | None = None
    """Default: as input."""
    audio_input: Decimal | None = None
    """Default: as input."""
    image_input: Decimal | None = None
    """Default: as input."""
    output: Decimal | None = None
    reasoning: Decimal | None = None
    """Default: as output."""
    audio_output: Decimal | None = None
    """Default: as output."""
    image_output: Decimal | None = None
    """Default: as output."""
    image: Decimal | None = None
    """For one image."""
    audio_minute: Decimal | None = None
    """For a minute of sound that was listened to."""
    characters: Decimal | None = None
    """For a million characters that were to be spoken."""
    call: Decimal | None = None
    """For a call, beside what it used."""
    batch_discount: Decimal | None = None
    """The part that a batch costs less, where there is no price of the tier `batch`: 0.5 for half."""
    provisioned_month: Decimal | None = None
    """What a deployment of provisioned throughput costs a month. Its hours are shared out by use; tokens are not charged."""

    def __post_init__(self) -> None:
        if not self.model and not self.deployment:
            raise ValueError("Expected `model` or `deployment`")  # the codec adds the place
        if self.provisioned_month is not None and not self.deployment:
            raise ValueError("Expected `deployment` beside `provisioned_month`")
        for name in AMOUNTS:
            amount = getattr(self, name)
            if amount is not None and not (amount.is_finite() and amount >= 0):
                raise ValueError(f"Expected `{name}` >= 0")
        if self.batch_discount is not None and self.batch_discount > 1:
            raise ValueError("Expected `batch_discount` <= 1")


AMOUNTS = tuple(
    name
    for name in Price.__struct_fields__
    if name not in {"model", "deployment", "region", "tier", "currency", "since"}
)


class ShippedPrices(msgspec.Struct, frozen=True, kw_only=True):
    """The sheet that comes with the gateway (shared/usage/prices.json)."""

    note: str = ""
    source: str = ""
    checked: str = ""
    """The day on which the source said so."""
    currency: str = ""
    prices: tuple[Price, ...] = ()


NO_PRICES = ShippedPrices()


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be priced."""

    model: str
    """As it was asked for."""
    model_served: str = ""
    deployment: str = ""
    region: str = ""
    tier: str = ""


type _ByModel = Mapping[str, tuple[Price, ...]]


class PriceSheet(msgspec.Struct, frozen=True, kw_only=True):
    """All prices of a configuration."""

    currency: str = "USD"
    version: str = ""
    """Changes whenever a price does: what money was computed with."""
    sheets: tuple[_ByModel, ...] = ()
    """The configured prices, then those that are shipped. Prices without a model stand under the empty name."""

    def price_of(self, use: Use, on: date) -> Price | None:
        """The price in force on a day. The model that served goes before the one that was asked, a snapshot's own name before
        the model's, a configured price before a shipped one, and a narrower one before a wider one."""
        tiers = _tiers(use.tier)
        for by_model in self.sheets:
            for name in _names(use):
                fitting = [price for price in by_model.get(name, ()) if _fits(price, use, tiers, on)]
                if fitting:
                    return max(fitting, key=partial(_narrowness, tiers))
        return None

    def provisioned(self, on: date) -> Mapping[str, Price]:
        """The prices of provisioned throughput in force on a day, by deployment."""
        in_force = [
            price
            for by_model in self.sheets
            for prices in by_model.values()
            for price in prices
            if price.provisioned_month is not None and price.since <= on
        ]
        return {price.deployment: price for price in sorted(in_force, key=lambda price: price.since)}


def sheet_of(configured: Iterable[Price], shipped: ShippedPrices, currency: str) -> PriceSheet:
    """The sheet of a configuration."""
    own = [price for price in configured if price.currency in ("", currency)]
    given = [price for price in shipped.prices if (price.currency or shipped.currency) == currency]
    digest = hashlib.sha256(msgspec.json.encode((currency, own, given))).hexdigest()
    return PriceSheet(currency=currency, version=digest[:12], sheets=(_by_model(own), _by_model(given)))


@lru_cache(4096)
def undated(model: str) -> str:
    """The model of a snapshot: `gpt-4o` for `gpt-4o-2024-11-20`, `gpt-4` for `gpt-4-0613`."""
    return _SNAPSHOT.sub("", model)


def with_length(tier: str, input_tokens: int | None) -> str:
    """The tier of a call that had so many tokens of input."""
    if (input_tokens or 0) <= LONG_ABOVE:
        return tier
    return f"{tier}/{LONG}" if tier else LONG


def without_length(tier: str) -> str:
    """The tier without what it says of the input's length."""
    return "" if tier == LONG else tier.removesuffix(f"/{LONG}")


def is_batch(tier: str) -> bool:
    """Whether it is a batch's, however long its calls were."""
    return without_length(tier) == BATCH


@lru_cache(4096)
def _tiers(tier: str) -> tuple[str, ...]:
    """The tiers whose prices hold for one, the narrowest first."""
    plain = without_length(tier)
    long = () if tier == plain else (tier,)
    if plain in SEPARATE_TIERS:
        return (*long, plain)
    return (*long, *(LONG for _ in long), plain, "")


def _by_model(prices: Iterable[Price]) -> _ByModel:
    found: dict[str, tuple[Price, ...]] = {}
    for price in prices:
        found[price.model] = (*found.get(price.model, ()), price)
    return found


def _names(use: Use) -> Iterable[str]:
    names = (use.model_served, undated(use.model_served), use.model, undated(use.model))
    return dict.fromkeys(("", *names))


def _fits(price: Price, use: Use, tiers: Sequence[str], on: date) -> bool:
    return (
        price.since <= on
        and price.provisioned_month is None
        and price.deployment in ("", use.deployment)
        and (not price.region or _plain(price.region) == _plain(use.region))
        and price.tier in tiers
    )


def _narrowness(tiers: Sequence[str], price: Price) -> tuple[bool, bool, int, date]:
    return bool(price.deployment), bool(price.region), -tiers.index(price.tier), price.since


def _plain(region: str) -> str:
    """`East US`, as headers say it, is `eastus`."""
    return region.lower().translate(_NOT_IN_REGIONS)
