"""Where usage is read from: Table Storage, or Data Explorer where that is set.

Rule: both give the same rows; a report does not know which it was.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Protocol

from shared.core.money.ledger import Span, UsageHour
from shared.core.reports.usage_report import UsageQuery, parts_of

_ROWS_AT_A_TIME = 100
"""A few milliseconds of work: calls of clients are relayed by the same loop."""


class UsageSource(Protocol):
    """Rows of usage."""

    def rows(self, span: Span, start: str, end: str, client_id: str | None) -> AsyncIterator[UsageHour]:
        """The usage of the hours, days or months from `start` up to but not including `end`, of one client or of all."""

    async def watermark(self) -> datetime | None:
        """The instant up to which everything that was recorded is counted; None where nothing ever was."""


async def rows_of(source: UsageSource, query: UsageQuery) -> AsyncIterator[UsageHour]:
    """The rows that a query is answered from; not all of them are what it asks for. Other work goes on between them."""
    count = 0
    for part in parts_of(query):
        async for row in source.rows(part.span, part.start, part.end, query.reads_client):
            yield row
            count += 1
            if count % _ROWS_AT_A_TIME == 0:
                await asyncio.sleep(0)
