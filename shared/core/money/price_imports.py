"""Price files of other tools, as prices of ours.

Rule: a number is taken over digit by digit (never through a float) and only its unit changes. What has no counterpart here is
left out, and said so.

Shapes: LiteLLM's model_prices_and_context_window.json (a map from `provider/model` to costs for one token), and ai-hub-gateway's
model-pricing.json (a list of models with a cost for `CostUnit` tokens).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal

import msgspec

from shared.core.money.prices import BATCH, LONG_ABOVE, Price, with_length

_MILLION = Decimal(1_000_000)
_SIZE = re.compile(r"\d+-x-\d+")
_QUALITIES = frozenset({"standard", "hd", "low", "medium", "high"})

type _Costs = Mapping[str, Decimal]


class ImportedPrices(msgspec.Struct, frozen=True):
    """What a file says, and what of it could not be taken over."""

    prices: tuple[Price, ...]
    left_out: tuple[str, ...]


class UnknownShape(Exception):
    """The file is neither of the shapes."""


class _AiHubRow(msgspec.Struct):
    model: str
    deployment: str = msgspec.field(name="deploymentName", default="")
    is_active: bool = msgspec.field(name="isActive", default=True)
    input: Decimal = msgspec.field(name="CostPerInputUnit", default=Decimal(0))
    output: Decimal = msgspec.field(name="CostPerOutputUnit", default=Decimal(0))
    unit: Decimal = msgspec.field(name="CostUnit", default=Decimal(1000))
    base: Decimal = msgspec.field(name="BaseCost", default=Decimal(0))
    currency: str = msgspec.field(name="Currency", default="USD")
    method: str = msgspec.field(name="CalculationMethod", default="tokens")
    region: str = "ALL"


def imported(content: bytes, since: date, provider: str) -> ImportedPrices:
    """The prices in a file of either shape, from `since` on. `provider` is whose to take from LiteLLM's file.

    Raises UnknownShape.
    """
    try:
        if content.lstrip()[:1] == b"[":
            return _ai_hub(msgspec.json.decode(content, type=list[_AiHubRow]), since)
        return _litellm(msgspec.json.decode(content, type=dict[str, dict[str, msgspec.Raw]]), since, provider)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnknownShape(f"neither LiteLLM's nor ai-hub-gateway's shape: {error}") from error


def as_toml(prices: Iterable[Price]) -> str:
    """The prices as they stand in a configuration."""
    blocks = []
    for price in prices:
        lines = ["[[prices]]"]
        for name, value in msgspec.to_builtins(price, builtin_types=(Decimal, date)).items():
            written = f"{value:f}" if isinstance(value, Decimal) else value if isinstance(value, date) else f'"{value}"'
            lines.append(f"{name} = {written}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _ai_hub(rows: list[_AiHubRow], since: date) -> ImportedPrices:
    active = [row for row in rows if row.is_active]
    several = {model for model, count in Counter(row.model for row in active).items() if count > 1}
    prices, left_out = [], [f"{row.model}: not active" for row in rows if not row.is_active]
    for row in active:
        region = "" if row.region.upper() == "ALL" else row.region
        if row.method == "percentage" and not row.deployment:
            left_out.append(f"{row.model}: a share of provisioned throughput, without the `deploymentName` whose it is")
            continue
        if row.method == "percentage":
            month = Price(deployment=row.deployment, provisioned_month=row.base, currency=row.currency, since=since)
            prices.append(month)
            continue
        if row.method != "tokens" or row.unit <= 0:
            left_out.append(f"{row.model}: the method {row.method!r} with the unit {row.unit}")
            continue
        if row.base:
            left_out.append(f"{row.model}: its base cost {row.base}")
        price = Price(
            model=row.model,
            deployment=row.deployment if row.model in several else "",
            region=region,
            currency=row.currency,
            since=since,
            input=_plain(row.input * _MILLION / row.unit),
            output=_plain(row.output * _MILLION / row.unit),
        )
        prices.append(price)
    return ImportedPrices(tuple(prices), tuple(left_out))


_PER_TOKEN = {
    "input": "input_cost_per_token",
    "cached_input": "cache_read_input_token_cost",
    "cache_write_input": "cache_creation_input_token_cost",
    "audio_input": "input_cost_per_audio_token",
    "image_input": "input_cost_per_image_token",
    "output": "output_cost_per_token",
    "reasoning": "output_cost_per_reasoning_token",
    "audio_output": "output_cost_per_audio_token",
    "image_output": "output_cost_per_image_token",
    "characters": "input_cost_per_character",
}
_STEP = f"_above_{LONG_ABOVE // 1000}k_tokens"
_STANDARD = {"": "", BATCH: "_batches", "flex": "_flex", "priority": "_priority"}
_TIERS = _STANDARD | {with_length(tier, LONG_ABOVE + 1): _STEP + suffix for tier, suffix in _STANDARD.items()}


def _litellm(models: Mapping[str, Mapping[str, msgspec.Raw]], since: date, provider: str) -> ImportedPrices:
    prices: list[Price] = []
    left_out: list[str] = []
    for name, fields in models.items():
        if _text(fields, "litellm_provider") != provider:
            continue
        found = _of_model(name.removeprefix(f"{provider}/"), fields, since)
        prices += found
        if not found:
            left_out.append(f"{name}: no price that has a counterpart")
        elif any("_above_" in field and _STEP not in field for field in fields):
            left_out.append(f"{name}: what it costs above a step that is not of {LONG_ABOVE} tokens")
    return ImportedPrices(tuple(prices), tuple(left_out))


def _of_model(name: str, fields: Mapping[str, msgspec.Raw], since: date) -> list[Price]:
    *before, model = name.split("/")
    sizes = [part for part in before if _SIZE.fullmatch(part)]
    qualities = [part for part in before if part in _QUALITIES]
    if len(before) != len(sizes) + len(qualities):
        return []  # a data zone, or another's name
    costs = {field: amount for field, raw in fields.items() if (amount := _amount(raw)) is not None}
    if sizes:
        image = _image_cost(costs, sizes[0])
        tier = f"{qualities[0] if qualities else 'standard'}/{sizes[0].replace('-x-', 'x')}"
        return [] if image is None else [Price(model=model, tier=tier, since=since, image=image)]
    found = []
    for tier, suffix in _TIERS.items():
        amounts = {
            ours: _plain(costs[theirs + suffix] * _MILLION)
            for ours, theirs in _PER_TOKEN.items()
            if theirs + suffix in costs
        }
        if not tier and (a_second := costs.get("input_cost_per_second")) is not None:
            amounts["audio_minute"] = _plain(a_second * 60)
        if amounts:
            found.append(msgspec.structs.replace(Price(model=model, tier=tier, since=since), **amounts))
    return found


def _image_cost(costs: _Costs, size: str) -> Decimal | None:
    for name in ("output_cost_per_image", "input_cost_per_image"):
        if name in costs:
            return _plain(costs[name])
    if not (pixel := costs.get("input_cost_per_pixel") or costs.get("output_cost_per_pixel")):
        return None
    width, height = size.split("-x-")
    return _plain(round(pixel * int(width) * int(height), 4))  # what a pixel costs is itself rounded


def _amount(raw: msgspec.Raw) -> Decimal | None:
    """A number, digit by digit; None for what is none."""
    text = bytes(raw)
    if not text[:1].isdigit() and text[:1] != b"-":
        return None
    return msgspec.json.decode(text, type=Decimal)


def _text(fields: Mapping[str, msgspec.Raw], name: str) -> str | None:
    raw = fields.get(name)
    return msgspec.json.decode(raw, type=str) if raw is not None and bytes(raw)[:1] == b'"' else None


def _plain(amount: Decimal) -> Decimal:
    """The same amount without zeros behind it, and not as a power of ten."""
    return Decimal(f"{amount.normalize():f}")
