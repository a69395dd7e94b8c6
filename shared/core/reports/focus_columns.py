"""The columns of FOCUS 1.2, the FinOps Open Cost and Usage Specification, and what a row of a file may hold.

Rule: the specification's words are data here: one line a column, and one entry for each rule that ties columns together.
`problems` says of a row what is wrong with it, whoever made it.
Source: https://focus.finops.org/focus-specification/v1-2/ (specification/columns in the repository
FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec, tag v1.2).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal

import msgspec

VERSION = "1.2"


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column as it is published."""

    name: str
    level: str
    """mandatory, conditional or recommended: whether a file has to have it."""
    type: str
    """string, decimal, instant, currency, or object (JSON with plain values)."""
    may_be_null: bool
    is_non_negative: bool
    values: tuple[str, ...]
    """The allowed ones; none: any."""


_TABLE = """
AvailabilityZone                    recommended  string   null
BilledCost                          mandatory    decimal
BillingAccountId                    mandatory    string
BillingAccountName                  mandatory    string   null
BillingAccountType                  conditional  string
BillingCurrency                     mandatory    currency
BillingPeriodEnd                    mandatory    instant
BillingPeriodStart                  mandatory    instant
CapacityReservationId               conditional  string   null
CapacityReservationStatus           conditional  string   null  Used|Unused
ChargeCategory                      mandatory    string         Usage|Purchase|Tax|Credit|Adjustment
ChargeClass                         mandatory    string   null  Correction
ChargeDescription                   mandatory    string   null
ChargeFrequency                     recommended  string         One-Time|Recurring|Usage-Based
ChargePeriodEnd                     mandatory    instant
ChargePeriodStart                   mandatory    instant
CommitmentDiscountCategory          conditional  string   null  Spend|Usage
CommitmentDiscountId                conditional  string   null
CommitmentDiscountName              conditional  string   null
CommitmentDiscountQuantity          conditional  decimal  null
CommitmentDiscountStatus            conditional  string   null  Used|Unused
CommitmentDiscountType              conditional  string   null
CommitmentDiscountUnit              conditional  string   null
ConsumedQuantity                    conditional  decimal  null
ConsumedUnit                        conditional  string   null
ContractedCost                      mandatory    decimal
ContractedUnitPrice                 conditional  decimal  null  >=0
EffectiveCost                       mandatory    decimal
InvoiceId                           recommended  string   null
InvoiceIssuerName                   mandatory    string
ListCost                            mandatory    decimal
ListUnitPrice                       conditional  decimal  null  >=0
PricingCategory                     conditional  string   null  Standard|Dynamic|Committed|Other
PricingCurrency                     conditional  currency null
PricingCurrencyContractedUnitPrice  conditional  decimal  null  >=0
PricingCurrencyEffectiveCost        conditional  decimal  null
PricingCurrencyListUnitPrice        conditional  decimal  null  >=0
PricingQuantity                     mandatory    decimal  null
PricingUnit                         mandatory    string   null
ProviderName                        mandatory    string
PublisherName                       mandatory    string
RegionId                            conditional  string   null
RegionName                          conditional  string   null
ResourceId                          conditional  string   null
ResourceName                        conditional  string   null
ResourceType                        conditional  string   null
ServiceCategory                     mandatory    string         AI and Machine Learning|Analytics|Business Applications|Compute|Databases|Developer Tools|Multicloud|Identity|Integration|Internet of Things|Management and Governance|Media|Migration|Mobile|Networking|Security|Storage|Web|Other
ServiceName                         mandatory    string
ServiceSubcategory                  recommended  string
SkuId                               conditional  string   null
SkuMeter                            conditional  string   null
SkuPriceDetails                     conditional  object   null
SkuPriceId                          conditional  string   null
SubAccountId                        conditional  string   null
SubAccountName                      conditional  string   null
SubAccountType                      conditional  string   null
Tags                                conditional  object   null
"""  # noqa: E501 - a line a column


def _column(line: str) -> Column:
    name, level, type_, *more = line.split(maxsplit=3)
    rest = more[0] if more else ""
    may_be_null, rest = rest.startswith("null"), rest.removeprefix("null").strip()
    is_non_negative = rest == ">=0"
    return Column(
        name=name,
        level=level,
        type=type_,
        may_be_null=may_be_null,
        is_non_negative=is_non_negative,
        values=tuple(rest.split("|")) if rest and not is_non_negative else (),
    )


COLUMNS: Mapping[str, Column] = {column.name: column for column in map(_column, _TABLE.strip().splitlines())}

SUBCATEGORIES = (
    "AI Platforms", "Bots", "Generative AI", "Machine Learning", "Natural Language Processing", "Other (AI and Machine Learning)",
)  # fmt: skip
"""Those of the service category "AI and Machine Learning"."""

type Row = Mapping[str, str]
"""A row as it stands in a CSV file: an empty cell is null."""

_NUMBER = re.compile(r"-?\d+(\.\d+)?(E-?\d+)?")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")
_CURRENCY = re.compile(r"[A-Z]{3}")
_UNIT = re.compile(r"(\d+ )?[A-Z][A-Za-z]*(-[A-Z][a-z]+|/(\d+ )?[A-Z][a-z]+)?")


def problems(row: Row) -> list[str]:
    """What the specification says against a row; nothing where it is well made."""
    return [*_of_columns(row), *_of_cells(row), *(rule for rule, holds in _RULES if _is_broken(row, holds))]


def _of_columns(row: Row) -> Iterator[str]:
    for column in COLUMNS.values():
        if column.level == "mandatory" and column.name not in row:
            yield f"{column.name} is missing"
    for name in row:
        if name not in COLUMNS and not name.startswith("x_"):
            yield f"{name} is no column of FOCUS {VERSION}, and does not begin with x_"


def _of_cells(row: Row) -> Iterator[str]:
    for name in row.keys() & COLUMNS.keys():
        column, cell = COLUMNS[name], row[name]
        if not cell:
            if not column.may_be_null:
                yield f"{name} is null"
        elif not _FORMATS[column.type](cell):
            yield f"{name} is no {column.type}: {cell}"
        elif column.values and cell not in column.values:
            yield f"{name} is none of its values: {cell}"
        elif column.is_non_negative and Decimal(cell) < 0:
            yield f"{name} is negative: {cell}"


def _is_object(cell: str) -> bool:
    try:
        return bool(msgspec.json.decode(cell, type=dict[str, str | int | float | bool | None]) or True)
    except msgspec.DecodeError:
        return False


_FORMATS: Mapping[str, Callable[[str], object]] = {
    "string": lambda cell: cell == cell.strip(),
    "decimal": _NUMBER.fullmatch,
    "instant": _INSTANT.fullmatch,
    "currency": _CURRENCY.fullmatch,
    "object": _is_object,
}


def _is_broken(row: Row, holds: Callable[[Row], bool]) -> bool:
    try:
        return not holds(row)
    except (KeyError, ArithmeticError):
        return False  # a column that is not there, or no number: said already


def _is_product(row: Row, cost: str, price: str) -> bool:
    if not row[price] or not row["PricingQuantity"]:
        return True
    return Decimal(row[price]) * Decimal(row["PricingQuantity"]) == Decimal(row[cost])


def _both_or_none(row: Row, *names: str) -> bool:
    return len({bool(row[name]) for name in names}) == 1


def _of_usage(*names: str) -> Callable[[Row], bool]:
    """That these are known of what was used or bought."""
    return lambda row: row["ChargeCategory"] not in {"Usage", "Purchase"} or all(row[name] for name in names)


_RULES: tuple[tuple[str, Callable[[Row], bool]], ...] = (
    ("ListCost is not ListUnitPrice times PricingQuantity", lambda row: _is_product(row, "ListCost", "ListUnitPrice")),
    (
        "ContractedCost is not ContractedUnitPrice times PricingQuantity",
        lambda row: _is_product(row, "ContractedCost", "ContractedUnitPrice"),
    ),
    ("PricingUnit and PricingQuantity go together", lambda row: _both_or_none(row, "PricingUnit", "PricingQuantity")),
    ("ConsumedUnit and ConsumedQuantity go together", lambda row: _both_or_none(row, "ConsumedUnit", "ConsumedQuantity")),
    ("SubAccountType and SubAccountId go together", lambda row: _both_or_none(row, "SubAccountType", "SubAccountId")),
    ("SkuPriceDetails is of no SkuPriceId", lambda row: not row["SkuPriceDetails"] or bool(row["SkuPriceId"])),
    ("SkuMeter is of no SkuId", lambda row: not row["SkuMeter"] or bool(row["SkuId"])),
    ("usage has no PricingQuantity", _of_usage("PricingQuantity")),
    ("usage has no ConsumedQuantity", _of_usage("ConsumedQuantity")),
    ("usage has no ListUnitPrice or ContractedUnitPrice", _of_usage("ListUnitPrice", "ContractedUnitPrice")),
    ("usage has no SkuId or SkuPriceId", _of_usage("SkuId", "SkuPriceId")),
    ("usage has no PricingCategory", _of_usage("PricingCategory")),
    ("PricingUnit is no unit", lambda row: not row["PricingUnit"] or bool(_UNIT.fullmatch(row["PricingUnit"]))),
    ("ConsumedUnit is no unit", lambda row: not row["ConsumedUnit"] or bool(_UNIT.fullmatch(row["ConsumedUnit"]))),
    ("the charge's period ends before it starts", lambda row: row["ChargePeriodStart"] < row["ChargePeriodEnd"]),
    (
        "the charge is not of the billing period",
        lambda row: row["BillingPeriodStart"] <= row["ChargePeriodStart"] and row["ChargePeriodEnd"] <= row["BillingPeriodEnd"],
    ),
    (
        "ServiceSubcategory is not one of its ServiceCategory",
        lambda row: row["ServiceCategory"] != "AI and Machine Learning" or row["ServiceSubcategory"] in SUBCATEGORIES,
    ),
    (
        "a property of SkuPriceDetails does not begin with x_",
        lambda row: all(name.startswith("x_") for name in _keys(row["SkuPriceDetails"])),
    ),
)  # fmt: skip


def _keys(cell: str) -> Iterable[str]:
    return msgspec.json.decode(cell, type=dict[str, object]) if cell and _is_object(cell) else ()
