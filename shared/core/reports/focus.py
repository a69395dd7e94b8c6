"""A month of usage as a FOCUS 1.2 file: a row for each day, client, model, deployment and measure.

Rule: the file's money is the rollup's, to the last digit. What has no price is a row that costs nothing and says so
(`x_IsUnpriced`), and so is what nobody told the usage of. The columns: shared/core/reports/focus_columns.py.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from shared.core.configuration import Configuration, UpstreamKind
from shared.core.errors import BadRequest
from shared.core.money.ledger import UsageHour, UsageKey
from shared.core.money.prices import PriceSheet
from shared.core.parameters import LATEST
from shared.core.reports.charges import Charge, charges_of
from shared.core.reports.csv_text import csv_line
from shared.core.reports.usage_report import beginning_of, money

_METERS = {
    "input": "Input tokens",
    "cached_input": "Cached input tokens",
    "cache_write_input": "Input tokens written to the cache",
    "audio_input": "Audio input tokens",
    "image_input": "Image input tokens",
    "output": "Output tokens",
    "reasoning": "Reasoning tokens",
    "audio_output": "Audio output tokens",
    "image_output": "Image output tokens",
    "image": "Images",
    "audio": "Sound listened to",
    "characters": "Characters spoken",
    "call": "Calls",
    "usage": "Usage as a whole",
    "unpriced": "Calls without a price",
    "unknown": "Calls of unknown usage",
}


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a deployment is."""

    publisher: str
    """Who makes the model available: Microsoft, OpenAI, or another host."""
    service: str


_ELSEWHERE = Place(publisher="Unknown", service="Generative AI")
_AZURE = Place(publisher="Microsoft", service="Azure OpenAI")
_PLACES = {
    UpstreamKind.AZURE: _AZURE,
    UpstreamKind.AZURE_V1: _AZURE,
    UpstreamKind.OPENAI: Place(publisher="OpenAI", service="OpenAI API"),
}


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """What all rows of a file have in common."""

    start: datetime
    account: str
    """The installation's name."""
    prices: PriceSheet
    places: Mapping[str, Place]
    """By deployment."""
    client_names: Mapping[str, str]

    @property
    def end(self) -> datetime:
        """The first instant of the next month."""
        return (self.start + timedelta(days=32)).replace(day=1)


def facts_of(configuration: Configuration | None, start: datetime, account: str) -> Month:
    """What the rows of a month have in common, as far as a configuration knows it."""
    if configuration is None:
        return Month(start=start, account=account, prices=PriceSheet(), places={}, client_names={})
    upstreams = {upstream.name: upstream for upstream in configuration.document.upstreams}
    return Month(
        start=start,
        account=account,
        prices=configuration.prices,
        places={
            deployment.name: _PLACES.get(upstreams[deployment.upstream].kind, _ELSEWHERE)
            for deployment in configuration.document.deployments
        },
        client_names={client.id: client.name for client in configuration.clients_by_id.values()},
    )


def month_of(text: str | None, now: datetime) -> datetime:
    """The beginning of a month, given as `2026-11`; of the current one where none is. Raises BadRequest."""
    if text is None:
        return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    with suppress(ValueError):
        month = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
        if month < LATEST:
            return month
    raise BadRequest(f"'month' is a month such as 2026-11; it was '{text[:20]}'.", param="month")


def focus_lines(month: Month, row: UsageHour) -> Iterator[bytes]:
    """The lines of a day's row."""
    for charge in charges_of(month.prices, row):
        yield csv_line(_cells(month, row, charge).values())


def header() -> bytes:
    """The file's first line."""
    return csv_line(COLUMNS)


def _cells(month: Month, row: UsageHour, charge: Charge) -> dict[str, str | None]:
    return {**_SAME, **_of_month(month), **_of_row(month, row), **_of_charge(row, charge)}


_SAME: Mapping[str, str | None] = {
    "BillingAccountType": "Tollgate installation",
    "ChargeCategory": "Usage",
    "ChargeClass": None,
    "ChargeFrequency": "Usage-Based",
    "InvoiceId": None,
    "InvoiceIssuerName": "Tollgate",
    "ProviderName": "Tollgate",
    "ServiceCategory": "AI and Machine Learning",
    "ServiceSubcategory": "Generative AI",
}
"""What is so in every row."""


def _of_month(month: Month) -> dict[str, str | None]:
    return {
        "BillingAccountId": month.account,
        "BillingAccountName": month.account,
        "BillingCurrency": month.prices.currency,
        "BillingPeriodStart": _instant(month.start),
        "BillingPeriodEnd": _instant(month.end),
    }


def _of_row(month: Month, row: UsageHour) -> dict[str, str | None]:
    """Who used what, where and when."""
    key, day = row.key, beginning_of(row.hour)
    place = month.places.get(key.deployment, _ELSEWHERE)
    return {
        "ChargePeriodStart": _instant(day),
        "ChargePeriodEnd": _instant(day + timedelta(days=1)),
        "PublisherName": place.publisher,
        "ServiceName": place.service,
        "RegionId": key.region.replace(" ", "").lower() or None,
        "RegionName": key.region or None,
        "ResourceId": key.deployment or None,
        "ResourceName": key.deployment or None,
        "ResourceType": "Model deployment" if key.deployment else None,
        "SubAccountId": key.client_id or None,
        "SubAccountName": month.client_names.get(key.client_id) or key.client_id or None,
        "SubAccountType": "Client" if key.client_id else None,
        "Tags": _object(cost_center=key.cost_center),
        "x_Model": _model(row),
        "x_ModelAsked": key.model,
        "x_Operation": key.operation,
        "x_PriceVersion": row.price_version,
    }


def _of_charge(row: UsageHour, charge: Charge) -> dict[str, str | None]:
    """How much of what, at which price."""
    is_unpriced = charge.unit_price is None
    cost, list_cost, unit_price = money(charge.cost), money(charge.list_cost), money(charge.unit_price or Decimal(0))
    meter, sku = _METERS[charge.measure], f"{_model(row)}/{charge.measure}"
    return {
        "BilledCost": cost,
        "EffectiveCost": cost,
        "ListCost": list_cost,
        "ListUnitPrice": unit_price,
        "ContractedCost": list_cost,
        "ContractedUnitPrice": unit_price,
        "ConsumedQuantity": money(charge.quantity.normalize()),
        "ConsumedUnit": charge.unit,
        "PricingQuantity": money(charge.pricing_quantity),
        "PricingUnit": charge.unit if charge.per == 1 else f"{charge.per} {charge.unit}",
        "PricingCategory": "Other" if is_unpriced or charge.measure == "usage" else "Standard",
        "ChargeDescription": f"{meter}, {_model(row)}{', NO PRICE' if is_unpriced else ''}",
        "SkuId": sku,
        "SkuMeter": meter,
        "SkuPriceId": f"{sku}/unpriced" if is_unpriced else "/".join(filter(None, (sku, row.key.region, row.key.tier))),
        "SkuPriceDetails": _object(x_Tier=row.key.tier),
        "x_IsUnpriced": "true" if is_unpriced else "false",
        "x_TokenClass": charge.measure,
    }


def _model(row: UsageHour) -> str:
    return row.key.model_served or row.key.model or row.key.deployment or "unknown"


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _object(**values: str) -> str | None:
    known = {name: value for name, value in values.items() if value}
    return msgspec.json.encode(known).decode() if known else None


def _columns() -> tuple[str, ...]:
    """The columns of a file, as any row has them."""
    month = Month(start=datetime(2026, 1, 1, tzinfo=UTC), account="", prices=PriceSheet(), places={}, client_names={})
    key = UsageKey(client_id="", cost_center="", operation="", model="", model_served="", deployment="")
    charge = Charge(measure="call", quantity=Decimal(0), unit="", unit_price=None, cost=Decimal(0))
    return tuple(_cells(month, UsageHour(hour="20260101", key=key), charge))


COLUMNS = _columns()
