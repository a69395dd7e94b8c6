"""FOCUS files: the published column rules, and the rows that we make."""

import csv
import io
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.errors import BadRequest
from shared.core.money.ledger import UsageHour, UsageKey
from shared.core.money.prices import NO_PRICES, Price, PriceSheet, sheet_of
from shared.core.money.pricing import rated
from shared.core.reports.charges import charges_of
from shared.core.reports.focus import COLUMNS as OURS
from shared.core.reports.focus import Month, Place, focus_lines, header, month_of
from shared.core.reports.focus_columns import COLUMNS, problems

D = Decimal
GPT = Price(model="gpt", input=D("2.5"), cached_input=D("1.25"), output=D(10), reasoning=D(12), batch_discount=D("0.5"))
PRICES = (
    GPT,
    Price(model="image", image=D("0.04")),
    Price(model="whisper", audio_minute=D("0.006")),
    Price(model="tts", characters=D(15)),
    Price(model="metered", input=D(1), output=D(1), call=D("0.001")),
    Price(model="ptu", deployment="ptu-east", provisioned_month=D(7200)),
)
KEY = UsageKey(
    client_id="blue", cost_center="cc-1", operation="chat.completions", model="gpt", model_served="gpt-2026-01-01",
    deployment="east", region="East US",
)  # fmt: skip
SHEET = sheet_of(PRICES, NO_PRICES, "EUR")
MONTH = Month(
    start=datetime(2026, 11, 1, tzinfo=UTC),
    account="tollgate",
    prices=SHEET,
    places={"east": Place(publisher="Microsoft", service="Azure OpenAI")},
    client_names={"blue": "Team Blue"},
)


def used(*, sheet: PriceSheet = SHEET, hour: str = "2026112112", **fields: Any) -> UsageHour:
    """A row of a day, with the money that the rollup gives it."""
    key = {name: fields.pop(name) for name in list(fields) if name in UsageKey.__struct_fields__}
    row = UsageHour(
        hour=hour, key=msgspec.structs.replace(KEY, **key), **({"calls": 1, "completed": 1, "provider": 1} | fields)
    )
    [priced] = [each for each in rated(sheet, hour, [row]) if each.calls]
    return msgspec.structs.replace(priced, hour=hour[:8])


def rows_of(*rows: UsageHour, month: Month = MONTH) -> list[dict[str, str]]:
    """The file's rows, read back."""
    text = (header() + b"".join(line for row in rows for line in focus_lines(month, row))).decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


MIXED = used(input_tokens=1000, cached_input_tokens=400, output_tokens=300, reasoning_tokens=100)
USES: dict[str, UsageHour] = {
    "tokens by class": MIXED,
    "a batch": used(input_tokens=1000, output_tokens=300, tier="batch"),
    "images": used(images=3, model="image", model_served="", operation="images.generate"),
    "sound": used(audio_ms=61_234, model="whisper", model_served=""),
    "characters": used(characters=1234, model="tts", model_served=""),
    "by call as well": used(input_tokens=10, output_tokens=1, model="metered", model_served=""),
    "provisioned throughput": used(input_tokens=10, output_tokens=1, deployment="ptu-east"),
    "provisioned throughput that nobody used": msgspec.structs.replace(
        rated(SHEET, "2026112112", [])[0], hour="20261121"
    ),
    "without a price": used(input_tokens=7, output_tokens=3, model="mystery", model_served=""),
    "of unknown usage": used(provider=0, usage_unknown=1),
    "of a deployment that is gone": used(input_tokens=5, deployment="gone", region=""),
    "of nobody": used(input_tokens=5, client_id="", cost_center=""),
    "under a hostile name": used(input_tokens=5, model="=cmd()", model_served='",\r\nx', client_id="@a"),
}


@pytest.mark.parametrize("row", USES.values(), ids=USES.keys())
def test_every_row_keeps_the_published_rules_and_the_rollups_money(row: UsageHour) -> None:
    """Guards that a FOCUS file can be read by whoever reads FOCUS, and says what the report says."""
    rows = rows_of(row)
    assert rows, "nothing that was used is left out"
    assert [problem for each in rows for problem in problems(each)] == []
    assert sum(D(each["BilledCost"]) for each in rows) == row.cost
    assert sum(D(each["EffectiveCost"]) for each in rows) == row.cost
    assert all(tuple(each) == OURS for each in rows)


COUNT = st.integers(0, 10**9)


@given(COUNT, COUNT, COUNT, COUNT, st.sampled_from(["", "batch"]), st.integers(1, 24))
def test_the_parts_of_a_charge_add_up_to_the_rollups_money(
    tokens: int, cached: int, output: int, reasoning: int, tier: str, hours: int
) -> None:
    """Guards that no rounding is lost between the hours of a day and its charges."""
    hour = used(
        input_tokens=tokens, cached_input_tokens=min(cached, tokens), output_tokens=output,
        reasoning_tokens=min(reasoning, output), tier=tier,
    )  # fmt: skip
    day = msgspec.structs.replace(
        hour,
        cost=hour.cost * hours,
        **{
            name: getattr(hour, name) * hours
            for name in ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")
        },
    )
    charges = charges_of(SHEET, day)
    assert sum((charge.cost for charge in charges), D(0)) == day.cost
    assert all(charge.measure != "usage" for charge in charges)


def cells(row: dict[str, str], *names: str) -> tuple[str, ...]:
    return tuple(row[name] for name in names)


def test_each_class_of_tokens_is_a_line_with_its_own_price() -> None:
    rows = rows_of(MIXED)
    names = ("x_TokenClass", "ConsumedQuantity", "ConsumedUnit", "PricingQuantity", "PricingUnit", "ListUnitPrice")
    assert [cells(row, *names) for row in rows] == [
        ("cached_input", "400", "Tokens", "0.0004", "1000000 Tokens", "1.25"),
        ("input", "600", "Tokens", "0.0006", "1000000 Tokens", "2.5"),
        ("reasoning", "100", "Tokens", "0.0001", "1000000 Tokens", "12"),
        ("output", "200", "Tokens", "0.0002", "1000000 Tokens", "10"),
    ]
    assert [D(row["BilledCost"]) for row in rows] == [D("0.0005"), D("0.0015"), D("0.0012"), D("0.002")]


def test_a_line_says_who_pays_for_what_where_and_when() -> None:
    row = rows_of(MIXED)[0]
    assert cells(row, "SubAccountId", "SubAccountName", "SubAccountType", "Tags") == (
        "blue", "Team Blue", "Client", '{"cost_center":"cc-1"}',
    )  # fmt: skip
    assert cells(row, "ResourceId", "RegionId", "RegionName", "PublisherName", "ServiceName") == (
        "east", "eastus", "East US", "Microsoft", "Azure OpenAI",
    )  # fmt: skip
    assert cells(row, "ChargePeriodStart", "ChargePeriodEnd", "BillingPeriodStart", "BillingPeriodEnd") == (
        "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z",
    )  # fmt: skip
    assert cells(row, "BillingCurrency", "SkuId", "SkuMeter", "x_PriceVersion") == (
        "EUR", "gpt-2026-01-01/cached_input", "Cached input tokens", SHEET.version,
    )  # fmt: skip


def test_what_has_no_price_is_a_line_that_says_so() -> None:
    """Guards that unpriced usage is visible."""
    rows = rows_of(USES["without a price"], USES["of unknown usage"])
    assert [cells(row, "x_TokenClass", "ConsumedQuantity", "x_IsUnpriced", "PricingCategory") for row in rows] == [
        ("input", "7", "true", "Other"),
        ("output", "3", "true", "Other"),
        ("unknown", "1", "true", "Other"),
    ]  # fmt: skip
    assert all("NO PRICE" in row["ChargeDescription"] and D(row["BilledCost"]) == 0 for row in rows)


def test_calls_without_a_price_are_a_line_beside_those_that_have_one() -> None:
    """Guards that a price which came in the middle of a day hides nothing of what was before."""
    day = used(input_tokens=1000)
    rows = rows_of(msgspec.structs.replace(day, calls=4, provider=4, input_tokens=1600, unpriced_calls=3))
    assert [cells(row, "x_TokenClass", "ConsumedQuantity", "BilledCost", "x_IsUnpriced") for row in rows] == [
        ("usage", "1", str(day.cost), "false"),
        ("unpriced", "3", "0", "true"),
    ]
    assert [problem for each in rows for problem in problems(each)] == []


def test_a_share_of_provisioned_throughput_and_former_prices_are_charged_as_a_whole() -> None:
    dearer = sheet_of((msgspec.structs.replace(GPT, input=D(99)),), NO_PRICES, "EUR")
    for row in (USES["provisioned throughput"], used(sheet=dearer, input_tokens=1000)):
        [line] = rows_of(row)
        assert cells(line, "x_TokenClass", "PricingQuantity", "PricingUnit") == ("usage", "1", "Units")
        assert D(line["BilledCost"]) == row.cost > 0


def test_prices_are_those_of_the_day() -> None:
    prices = (GPT, msgspec.structs.replace(GPT, since=date(2026, 11, 15), input=D(5)))
    sheet = sheet_of(prices, NO_PRICES, "EUR")
    month = msgspec.structs.replace(MONTH, prices=sheet)
    days = [used(sheet=sheet, hour=f"202611{day}00", input_tokens=100) for day in (14, 15)]
    assert [row["ListUnitPrice"] for row in rows_of(*days, month=month)] == ["2.5", "5"]


GOOD = rows_of(MIXED)[0]
BAD: dict[str, tuple[dict[str, str], str]] = {
    "a column that is missing": ({"BilledCost": "\0"}, "BilledCost is missing"),
    "a column that there is not": ({"Model": "gpt"}, "Model is no column"),
    "a null": ({"ServiceName": ""}, "ServiceName is null"),
    "a number with a comma": ({"BilledCost": "1,5"}, "BilledCost is no decimal"),
    "a positive exponent with a sign": ({"BilledCost": "1E+2"}, "BilledCost is no decimal"),
    "an instant without its zone": ({"ChargePeriodStart": "2026-11-21T00:00:00"}, "ChargePeriodStart is no instant"),
    "a currency in small letters": ({"BillingCurrency": "eur"}, "BillingCurrency is no currency"),
    "a value that is not allowed": ({"ChargeCategory": "usage"}, "ChargeCategory is none of its values"),
    "a negative price": ({"ListUnitPrice": "-1"}, "ListUnitPrice is negative"),
    "tags that are a list": ({"Tags": "[]"}, "Tags is no object"),
    "a cost that is no product": ({"ListCost": "1"}, "ListCost is not ListUnitPrice times PricingQuantity"),
    "a quantity without its unit": ({"ConsumedUnit": ""}, "ConsumedUnit and ConsumedQuantity go together"),
    "usage without a quantity": ({"PricingQuantity": "", "PricingUnit": ""}, "usage has no PricingQuantity"),
    "usage without a SKU": ({"SkuId": "", "SkuMeter": ""}, "usage has no SkuId or SkuPriceId"),
    "a unit in small letters": ({"PricingUnit": "1000 tokens"}, "PricingUnit is no unit"),
    "a charge of another month": ({"ChargePeriodStart": "2026-10-31T00:00:00Z"}, "not of the billing period"),
    "a period that ends before it starts": ({"ChargePeriodEnd": "2026-11-20T00:00:00Z"}, "ends before it starts"),
    "a subcategory of another category": ({"ServiceSubcategory": "Containers"}, "ServiceSubcategory is not one"),
    "a property of their own": ({"SkuPriceDetails": '{"tier":"x"}'}, "does not begin with x_"),
    "a sub account without its type": ({"SubAccountType": ""}, "SubAccountType and SubAccountId go together"),
}


@pytest.mark.parametrize(("changes", "problem"), BAD.values(), ids=BAD.keys())
def test_a_row_that_breaks_a_rule_is_noticed(changes: dict[str, str], problem: str) -> None:
    row = {name: cell for name, cell in (GOOD | changes).items() if cell != "\0"}
    assert any(problem in each for each in problems(row)), problems(row)


def test_the_table_of_columns_is_whole() -> None:
    assert len(COLUMNS) == 57
    assert {column.level for column in COLUMNS.values()} == {"mandatory", "conditional", "recommended"}
    assert {name for name in OURS if not name.startswith("x_")} <= COLUMNS.keys()


def test_a_month_is_written_as_such() -> None:
    now = datetime(2026, 12, 31, 23, tzinfo=UTC)
    assert month_of("2026-11", now) == MONTH.start
    assert month_of(None, now) == datetime(2026, 12, 1, tzinfo=UTC)
    assert msgspec.structs.replace(MONTH, start=month_of(None, now)).end == datetime(2027, 1, 1, tzinfo=UTC)
    for text in ("2026-13", "9999-12", "November"):
        with pytest.raises(BadRequest):
            month_of(text, now)
