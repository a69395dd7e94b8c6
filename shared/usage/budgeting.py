"""Budgets as the rollup sees them: instances are told what the ledger shows to be used, and people how far budgets have come.

Rule: an alert is claimed in a table before it is told, so of several timers one tells it; it is noted as told when the webhook
has taken it, and told again after a while where it has not.

    PartitionKey    RowKey
    alert-2026-11   <the alert's id>    when it was claimed, and whether it was told
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec
from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError
from azure.data.tables import TableEntity, UpdateMode
from azure.data.tables.aio import TableClient

from shared.clients.limits import Limits
from shared.core.api.upstream_requests import UpstreamRequest
from shared.core.configuration import Configuration
from shared.core.money.ledger import UsageHour
from shared.core.reports.alerts import Alert, due
from shared.core.reports.budgets import BudgetReport, budgets, days_of
from shared.gateway.upstream import UpstreamError, Upstreams
from shared.storage.entities import Entity
from shared.usage.table import UsageTable

_log = logging.getLogger(__name__)

_ANSWER_S = 10.0
"""How long a webhook may take: the timer has more to do."""
_PATIENCE = timedelta(minutes=2)
"""After which an alert that was claimed and not told is anyone's again."""


class Budgeting(msgspec.Struct, frozen=True, kw_only=True):
    """The timer's work on budgets."""

    usage: UsageTable
    limits: Limits
    alerts: TableClient
    """The table of limits."""
    upstreams: Upstreams
    """Whose connections carry alerts too."""
    now: Callable[[], datetime]

    async def run(self, configuration: Configuration) -> int:
        """Settles the budgets of this month and tells what is due. Returns how many alerts were told. Raises AzureError."""
        now = self.now()
        clients = [
            client
            for client in configuration.clients_by_id.values()
            if client.limits.tokens_per_month is not None or client.limits.money_per_month is not None
        ]
        if not clients:
            return 0
        days = days_of(now)
        rows = [row async for row in self.usage.rows(days.span, days.start, days.end, None)]
        used = _used([row for row in rows if row.hour.startswith(f"{now:%Y%m}")])
        for client in clients:
            tokens, money = used.get(client.id, (0, Decimal(0)))
            await self.limits.reconcile(client, f"{now:%Y%m}", tokens=tokens, money=money)
        currency = configuration.document.currency
        return await self._tell(configuration, budgets(clients, rows, currency, await self.usage.watermark(), now))

    async def _tell(self, configuration: Configuration, report: BudgetReport) -> int:
        alerts = due(report, configuration.alerts.at)
        if not alerts:
            return 0
        partition = f"alert-{report.month}"
        query = self.alerts.query_entities("PartitionKey eq @month", parameters={"month": partition})
        known = {entity["RowKey"]: entity async for entity in query}
        told = 0
        for alert in alerts:
            row = {"PartitionKey": partition, "RowKey": alert.id}
            if not await self._claim(row, known.get(alert.id)):
                continue
            if not await self._told(row, alert, configuration.alerts.webhook):
                break  # the webhook is away: the others wait for the next run, which passes this one over
            told += 1
        return told

    async def _claim(self, row: Entity, known: TableEntity | None) -> bool:
        """Whether it is ours to tell now."""
        claim: Entity = row | {"ClaimedAt": self.now(), "Told": False}
        try:
            if known is None:
                await self.alerts.create_entity(claim)
            elif known["Told"] or known["ClaimedAt"] > self.now() - _PATIENCE:
                return False
            else:
                await self.alerts.update_entity(
                    claim,
                    UpdateMode.REPLACE,
                    etag=known.metadata["etag"],
                    match_condition=MatchConditions.IfNotModified,
                )
        except (ResourceExistsError, ResourceModifiedError):
            return False
        return True

    async def _told(self, row: Entity, alert: Alert, webhook: str) -> bool:
        budget = alert.budget
        said = {"client_id": budget.client_id, "measure": budget.measure, "percent": alert.percent}
        _log.warning("budget threshold reached", extra={**said, "used": str(budget.used), "limit": str(budget.limit)})
        if webhook and not await self._posted(alert, webhook):
            return False
        await self.alerts.update_entity(row | {"Told": True}, UpdateMode.MERGE)
        return True

    async def _posted(self, alert: Alert, webhook: str) -> bool:
        body = msgspec.json.encode(alert)
        headers = (("content-type", "application/json"), ("idempotency-key", alert.id))
        request = UpstreamRequest(method="POST", url=webhook, headers=headers, body=body, asks_usage=False)
        try:
            async with asyncio.timeout(_ANSWER_S):
                response = await self.upstreams.send(request)
                await response.close()
        except UpstreamError as error:
            reason = error.reason
        except TimeoutError:
            reason = f"no answer within {_ANSWER_S} s"
        else:
            if response.status < 300:
                return True
            reason = f"status {response.status}"
        _log.error("alert not taken", extra={"alert": alert.id, "reason": reason})
        return False


def _used(rows: Iterable[UsageHour]) -> dict[str, tuple[int, Decimal]]:
    """Tokens and money, by client."""
    used: dict[str, tuple[int, Decimal]] = {}
    for row in rows:
        tokens, money = used.get(row.key.client_id, (0, Decimal(0)))
        used[row.key.client_id] = tokens + row.input_tokens + row.output_tokens, money + row.cost
    return used
