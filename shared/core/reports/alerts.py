"""Which budgets have come so far that somebody is to be told.

Rule: each threshold of each budget is told once a month; the id of an alert says which it is, so that whoever gets it twice can
tell. Used is what the rollup has counted; the hard stop at the limit itself is shared/limits.
"""

import hashlib
from collections.abc import Iterable

import msgspec

from shared.core.reports.budgets import Budget, BudgetReport


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A threshold that is reached: what is posted to the webhook."""

    object: str = "budget.alert"
    id: str
    """The same for the same threshold, month, client and measure."""
    month: str
    """`2026-11`."""
    percent: int
    """The threshold; how much is used stands in `budget`."""
    currency: str
    budget: Budget


def due(report: BudgetReport, at: Iterable[int]) -> list[Alert]:
    """Every threshold that is reached, told or not: the lowest of a budget first."""
    return [
        Alert(
            id=_id(report.month, budget, percent),
            month=report.month,
            percent=percent,
            currency=report.currency,
            budget=budget,
        )
        for budget in report.data
        for percent in sorted(at)
        if budget.used_share * 100 >= percent
    ]


def _id(month: str, budget: Budget, percent: int) -> str:
    client = hashlib.sha256(budget.client_id.encode()).hexdigest()[:32]  # it may hold what a key must not
    return f"{month}-{budget.measure}-{percent}-{client}"
