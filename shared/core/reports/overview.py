"""What the dashboard shows of usage: one reading of the rows, added up by period, by group, by both and by client.

Rule: its figures are those of `/usage`, made by the same code; it only spares the page to ask four times.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from shared.core.errors import BadRequest
from shared.core.money.ledger import UsageHour
from shared.core.reports.usage_report import TIMES, Addend, Figures, Line, UsageQuery, money, time_of

NAMES = ("client_id", "cost_center", "model", "deployment")
"""What the page offers to filter by."""


class Point(msgspec.Struct, frozen=True):
    """What a chart needs to know of a group in one period; periods without calls have none."""

    period: str
    name: str
    calls: int
    unpriced_calls: int
    input_tokens: int
    output_tokens: int
    cost: str


class OverviewReport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. Lines are as in `/usage`; `groups` and `clients` are ordered by cost and then by calls, the most first.

    The name of a group is empty where there is none: no deployment was asked, say.
    """

    object: str = "usage.overview"
    start: datetime
    end: datetime
    time_zone: str
    currency: str
    watermark: datetime | None
    total: Line
    periods: list[Line]
    groups: list[Line]
    clients: list[Line]
    points: list[Point]
    names: Mapping[str, list[str]]
    """Every name in the rows that may be seen, by field, whatever the filters."""


class Overview:
    """Adds up rows, one by one. The query's `group_by` is a time and a field. Raises BadRequest where it is not."""

    def __init__(self, query: UsageQuery) -> None:
        if len(query.group_by) != 2 or query.group_by[0] not in TIMES or query.group_by[1] in TIMES:
            raise BadRequest("An overview takes a 'granularity' and one field to group by.", param="group_by")
        self.query = query
        self._periods: dict[str, Figures] = defaultdict(Figures)
        self._groups: dict[str, Figures] = defaultdict(Figures)
        self._clients = self._groups if query.group_by[1] == "client_id" else defaultdict(Figures)
        self._points: dict[tuple[str, str], list[Any]] = {}
        self._names: dict[str, set[str]] = {name: set() for name in NAMES}

    @property
    def rows(self) -> UsageQuery:
        """The rows to read: those that are filtered out have names to filter by."""
        return msgspec.structs.replace(self.query, filters=())

    def add(self, row: UsageHour) -> None:
        """Counts a row, where the query takes it."""
        if self.query.client_id not in (None, row.key.client_id):
            return
        for name, found in self._names.items():
            found.add(getattr(row.key, name))
        if not self.query.takes(row.key):
            return
        granularity, by = self.query.group_by
        period, group = time_of(row.hour, granularity, self.query.zone), getattr(row.key, by)
        addend = Addend.of(row)
        self._periods[period].add(addend)
        self._groups[group].add(addend)
        if self._clients is not self._groups:
            self._clients[row.key.client_id].add(addend)
        point = self._points.setdefault((period, group), [0, 0, 0, 0, Decimal(0)])
        for index, amount in enumerate((row.calls, row.unpriced_calls, row.input_tokens, row.output_tokens, row.cost)):
            point[index] += amount

    def report(self, currency: str, watermark: datetime | None) -> OverviewReport:
        """What was added up."""
        total = Figures()
        for figures in self._periods.values():
            total.include(figures)
        return OverviewReport(
            start=self.query.start,
            end=self.query.end,
            time_zone=str(self.query.zone),
            currency=currency,
            watermark=watermark,
            total=total.line(),
            periods=[{"period": period} | self._periods[period].line() for period in sorted(self._periods)],
            groups=_ranked(self._groups),
            clients=_ranked(self._clients),
            points=[self._point(*key) for key in sorted(self._points)],
            names={name: sorted(found - {""}) for name, found in self._names.items()},
        )

    def _point(self, period: str, name: str) -> Point:
        calls, unpriced, input_tokens, output_tokens, cost = self._points[period, name]
        return Point(period, name, calls, unpriced, input_tokens, output_tokens, money(cost))


def _ranked(sums: Mapping[str, Figures]) -> list[Line]:
    order = sorted(sums, key=lambda name: (-sums[name].cost, -sums[name].counters["calls"], name))
    return [{"name": name} | sums[name].line() for name in order]
