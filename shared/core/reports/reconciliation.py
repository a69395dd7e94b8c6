"""Our tokens beside the provider's own account of them: Azure Monitor's metrics, or an export of Azure's costs.

Rule: only what their file covers is compared: its accounts and its days. What is on one side alone is drift, not left out.
Azure Monitor counts by deployment, a cost export by account: it does not know deployments.
Metrics are those of https://learn.microsoft.com/azure/ai-foundry/openai/monitor-openai-reference, as `az monitor metrics list`
prints them with `--dimension ModelDeploymentName --aggregation Total`; exports those of
https://learn.microsoft.com/azure/cost-management-billing/dataset-schema.
"""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from shared.core.configuration import Configuration, Deployment
from shared.core.errors import BadRequest
from shared.core.money.ledger import UsageHour
from shared.core.reports.usage_report import beginning_of

_METRICS = {
    "processedprompttokens": "input_tokens",
    "inputtokens": "input_tokens",
    "generatedtokens": "output_tokens",
    "outputtokens": "output_tokens",
}
_ACCOUNT = re.compile(r"/accounts/([^/]+)", re.IGNORECASE)
_MEASURES = ("input_tokens", "output_tokens")


class Told(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """What is compared: tokens of an account, or of one deployment there, on a day (UTC)."""

    account: str
    """The first part of its address: `contoso` of `contoso.openai.azure.com`, in small letters."""
    deployment: str
    """Azure's name for it; empty: all of the account's."""
    day: date
    measure: str


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison."""

    account: str
    deployment: str
    day: date
    measure: str
    ours: int
    theirs: int
    difference: int
    """Ours less theirs."""
    percent: float | None
    """Of theirs; None where theirs is nothing and ours is not."""
    is_within: bool


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    object: str = "usage.reconciliation"
    source: str
    """metrics or costs"""
    tolerance_percent: float
    data: list[Drift]
    beyond: int
    """How many comparisons are beyond the tolerance."""


class Theirs(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says."""

    source: str
    tokens: Mapping[Told, int]
    accounts: frozenset[str]
    days: tuple[date, ...]


# Reading their files.


class _Named(msgspec.Struct):
    value: str


class _Dimension(msgspec.Struct):
    name: _Named
    value: str


class _Point(msgspec.Struct, rename={"at": "timeStamp"}):
    at: datetime
    total: float | None = None


class _Series(msgspec.Struct):
    metadatavalues: Sequence[_Dimension] = ()
    data: Sequence[_Point] = ()


class _Metric(msgspec.Struct):
    name: _Named
    id: str = ""
    timeseries: Sequence[_Series] = ()


class _Metrics(msgspec.Struct):
    value: Annotated[Sequence[_Metric], msgspec.Meta(min_length=1)]


def read(content: bytes) -> Theirs:
    """Their account: JSON of metrics, or CSV of costs. Raises BadRequest, with what is missing in it."""
    if content.lstrip()[:1] == b"{":
        return _read_metrics(content)
    try:
        return _read_costs(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadRequest("The file is neither JSON nor CSV in UTF-8.") from error


def _read_metrics(content: bytes) -> Theirs:
    try:
        metrics = msgspec.json.decode(content, type=_Metrics).value
    except msgspec.DecodeError as error:
        raise BadRequest(f"This is not what `az monitor metrics list` prints: {error}") from error
    tokens: dict[Told, int] = defaultdict(int)
    accounts, days = set(), set()
    for metric in metrics:
        measure = _METRICS.get(metric.name.value.lower())
        if measure is None:
            continue
        account = _account(metric.id)
        accounts.add(account)
        for series in metric.timeseries:
            deployment = _deployment(series)
            for point in series.data:
                day = point.at.astimezone(UTC).date()
                days.add(day)
                told = Told(account=account, deployment=deployment, day=day, measure=measure)
                tokens[told] += round(point.total or 0)
    if not days:
        raise BadRequest(f"None of the metrics is one of {', '.join(_METRICS)}.")
    return Theirs(source="metrics", tokens=tokens, accounts=frozenset(accounts), days=tuple(sorted(days)))


def _deployment(series: _Series) -> str:
    for dimension in series.metadatavalues:
        if dimension.name.value.lower() == "modeldeploymentname":
            return dimension.value.lower()
    raise BadRequest("The metrics do not tell deployments apart: add --dimension ModelDeploymentName.")


_COLUMNS = {
    "day": ("chargeperiodstart", "date", "usagedate", "usagedatetime"),
    "resource": ("resourceid", "instanceid", "instancename"),
    "meter": ("x_skumetername", "skumeter", "metername"),
    "quantity": ("consumedquantity", "quantity", "usagequantity"),
    "unit": ("consumedunit", "unitofmeasure"),
}
"""Of FOCUS exports, and of exports of actual and amortised costs."""
_INPUT, _OUTPUT = (
    re.compile(r"\binp(ut|t)?s?\b", re.IGNORECASE),
    re.compile(r"\b(outp(ut|t)?s?|opt|out)\b", re.IGNORECASE),
)
_UNIT = re.compile(r"^\s*(?P<count>[\d,.]+)?\s*(?P<scale>[KM])?(?:\s*tokens?)?\s*$", re.IGNORECASE)
_SCALES = {"": 1, "K": 1000, "M": 1_000_000}
_DAYS = ("%Y-%m-%d", "%m/%d/%Y", "%Y%m%d")


def _read_costs(text: str) -> Theirs:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    names = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
    columns = {
        column: next((names[each] for each in known if each in names), None) for column, known in _COLUMNS.items()
    }
    if missing := [column for column, name in columns.items() if name is None]:
        known = ", ".join(_COLUMNS[missing[0]])
        raise BadRequest(f"The export has no column for the {missing[0]}: one of {known} is looked for.")
    tokens: dict[Told, Decimal] = defaultdict(Decimal)
    accounts, days = set(), set()
    for row in rows:
        cell = {column: row.get(str(name)) or "" for column, name in columns.items()}
        measure, account = _measure(cell["meter"]), _account(cell["resource"])
        if measure is None or not account:
            continue  # not of tokens, or not of a model
        day = _day(cell["day"])
        accounts.add(account)
        days.add(day)
        told = Told(account=account, deployment="", day=day, measure=measure)
        tokens[told] += _number(cell["quantity"]) * _scale(cell["unit"])
    if not days:
        raise BadRequest("There is no meter of input or output tokens of an account in the export.")
    whole = {told: round(amount) for told, amount in tokens.items()}
    return Theirs(source="costs", tokens=whole, accounts=frozenset(accounts), days=tuple(sorted(days)))


def _measure(meter: str) -> str | None:
    if _OUTPUT.search(meter):
        return "output_tokens"
    return "input_tokens" if _INPUT.search(meter) else None


def _account(resource: str) -> str:
    found = _ACCOUNT.search(resource)
    return found[1].lower() if found else ""


def _day(text: str) -> date:
    for form in _DAYS:
        try:
            return datetime.strptime(text[:10].strip(), form).replace(tzinfo=UTC).date()
        except ValueError:
            continue
    raise BadRequest(f"'{text[:30]}' is no date of an export.")


def _number(text: str) -> Decimal:
    try:
        number = Decimal(text.replace(",", ""))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise BadRequest(f"'{text[:30]}' is no quantity.")
    return number


def _scale(unit: str) -> Decimal:
    found = _UNIT.match(unit)
    if not found:
        raise BadRequest(f"'{unit[:30]}' is no unit of tokens; known are such as 1K, 1M and 1000 Tokens.")
    return _number(found["count"] or "1") * _SCALES[(found["scale"] or "").upper()]


# Comparing.


class Ours:
    """Our tokens where they ran, added up row by row."""

    def __init__(self, theirs: Theirs, configuration: Configuration) -> None:
        self._theirs = theirs
        self._places = {
            target.deployment.name: (_host(target.upstream.url), _name_there(target.deployment))
            for pool in configuration.pools.values()
            for target in pool.targets
        }
        self.tokens: dict[Told, int] = defaultdict(int)

    def add(self, row: UsageHour) -> None:
        """Counts a row, where it ran on one of their accounts, on one of their days."""
        account, deployment = self._places.get(row.key.deployment, ("", ""))
        day = beginning_of(row.hour).date()
        if account not in self._theirs.accounts or day not in self._theirs.days:
            return
        if self._theirs.source == "costs":
            deployment = ""
        for measure in _MEASURES:
            told = Told(account=account, deployment=deployment, day=day, measure=measure)
            self.tokens[told] += getattr(row, measure)


def reconcile(theirs: Theirs, ours: Mapping[Told, int], tolerance_percent: float) -> Reconciliation:
    """Every comparison, by account, deployment, day and measure."""
    measures = {told.measure for told in theirs.tokens}
    compared = sorted({*theirs.tokens, *(told for told in ours if told.measure in measures)})
    data = list(_drifts(compared, ours, theirs.tokens, tolerance_percent))
    return Reconciliation(
        source=theirs.source,
        tolerance_percent=tolerance_percent,
        data=data,
        beyond=sum(not drift.is_within for drift in data),
    )


def _drifts(
    compared: Iterable[Told], ours: Mapping[Told, int], theirs: Mapping[Told, int], tolerance_percent: float
) -> Iterator[Drift]:
    for told in compared:
        our, their = ours.get(told, 0), theirs.get(told, 0)
        if not our and not their:
            continue
        difference = our - their
        percent = 100 * difference / their if their else None
        yield Drift(
            **msgspec.structs.asdict(told),
            ours=our,
            theirs=their,
            difference=difference,
            percent=None if percent is None else round(percent, 4),
            is_within=percent is not None and abs(percent) <= tolerance_percent,
        )


def _name_there(deployment: Deployment) -> str:
    return (deployment.deployment or deployment.model).lower()


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").split(".")[0].lower()
