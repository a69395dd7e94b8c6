"""What `GET /usage` answers: the usage of a span of hours, added up by what was asked.

Rule: a report adds up rows and never guesses. What is unknown is counted as unknown (`usage_unknown`), not as zero tokens.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from shared.core.errors import BadRequest
from shared.core.ledger import COUNTERS, UsageHour, UsageKey
from shared.core.parameters import Parameters, whole_hours

GROUPS = ("hour", *UsageKey.__struct_fields__)


class UsageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which hours, from `start` up to but not including `end` (UTC, whole hours), and what to add up by."""

    start: datetime
    end: datetime
    group_by: tuple[str, ...]


class UsageReport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. Each line of `data` has the fields of `group_by`, then every counter of UsageHour."""

    object: str = "usage.report"
    start: datetime
    end: datetime
    group_by: tuple[str, ...]
    data: list[dict[str, str | int]]
    total: dict[str, int]


def parse_query(parameters: Parameters, now: datetime) -> UsageQuery:
    """The query in URL parameters `start`, `end` (ISO 8601; default: this month so far) and `group_by` (comma-separated).

    Raises BadRequest.
    """
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    start, end = whole_hours(parameters.instant("start", month), parameters.instant("end", now))
    group_by = parameters.listed("group_by") or ("client_id", "model")
    unknown = [name for name in group_by if name not in GROUPS]
    if unknown:
        raise BadRequest(f"Cannot group by {', '.join(unknown)}; known are {', '.join(GROUPS)}.", param="group_by")
    return UsageQuery(start=start, end=end, group_by=group_by)


def report(query: UsageQuery, rows: Iterable[UsageHour]) -> UsageReport:
    """`rows` added up as the query asks, ordered by the groups."""
    lines: dict[tuple[str, ...], dict[str, int]] = {}
    total = dict.fromkeys(COUNTERS, 0)
    for row in rows:
        group = tuple(row.hour if name == "hour" else getattr(row.key, name) for name in query.group_by)
        line = lines.setdefault(group, dict.fromkeys(COUNTERS, 0))
        for name in COUNTERS:
            amount = getattr(row, name)
            line[name] += amount
            total[name] += amount
    data = [dict(zip(query.group_by, group, strict=True)) | lines[group] for group in sorted(lines)]
    return UsageReport(start=query.start, end=query.end, group_by=query.group_by, data=data, total=total)
