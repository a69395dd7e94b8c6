"""Timer triggers. The rule: one listener never runs its function twice at once, and all times are UTC.

Follows TimerListener, ScheduleMonitor and StorageScheduleMonitor of Azure/azure-webjobs-sdk-extensions: the last and
the next run are kept in a blob (`azure-webjobs-hosts/timers/{host id}/Host.Functions.{name}/status`), so a run that was
missed while no host was up is made up for at the start, as past due. Not here: the blob lease by which one of several
instances becomes the only one that listens, and schedules given as a TimeSpan.
https://learn.microsoft.com/azure/azure-functions/functions-bindings-timer
"""

import asyncio
import itertools
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient
from croniter import croniter

from devtools.devhost.config import ConfigError, connection_string, resolve
from devtools.devhost.invocations import Input, Invocations
from devtools.devhost.listener import pause
from devtools.devhost.runtime import Function, json_data

_CONTAINER = "azure-webjobs-hosts"
_NEVER = datetime.min.replace(tzinfo=UTC)
_log = logging.getLogger("devhost")


class Schedule:
    """An NCRONTAB expression: {second} {minute} {hour} {day} {month} {day-of-week}, or the last five of them."""

    def __init__(self, expression: str) -> None:
        """Raises ConfigError for an expression that cannot be read."""
        fields = expression.split()
        self.expression = " ".join(["0", *fields] if len(fields) == 5 else fields)
        if len(self.expression.split()) != 6 or not croniter.is_valid(self.expression, second_at_beginning=True):
            raise ConfigError(f"The schedule expression {expression!r} was not recognized as a valid cron expression.")

    def next_after(self, moment: datetime) -> datetime:
        """The first occurrence later than `moment`."""
        # day_or: NCrontab wants the day of the month and the day of the week both to match, cron either.
        following: datetime = croniter(
            self.expression, moment, ret_type=datetime, second_at_beginning=True, day_or=False
        ).get_next()
        return following

    def is_rare(self) -> bool:
        """Whether the next occurrences are at least a minute apart; others are not monitored."""
        moments = [datetime.now(UTC)]
        for _ in range(6):
            moments.append(self.next_after(moments[-1]))
        return all(b - a >= timedelta(minutes=1) for a, b in itertools.pairwise(moments[1:]))


@dataclass(frozen=True, kw_only=True)
class Status:
    """When a timer last ran, when it is due next, and when that was worked out."""

    last: datetime
    next: datetime
    updated: datetime

    def as_json(self) -> dict[str, str]:
        """The document that the host stores and that `TimerRequest.schedule_status` shows."""
        return {"Last": self.last.isoformat(), "Next": self.next.isoformat(), "LastUpdated": self.updated.isoformat()}

    @classmethod
    def from_json(cls, document: Mapping[str, str]) -> "Status":
        """Raises KeyError, ValueError."""
        last, following, updated = (datetime.fromisoformat(document[key]) for key in ("Last", "Next", "LastUpdated"))
        return cls(last=last, next=following, updated=updated)


class Monitor:
    """The status blob of one timer."""

    def __init__(self, connection: str, host_id: str, function: str) -> None:
        self._connection = connection
        self._blob = f"timers/{host_id}/Host.Functions.{function}/status"

    async def read(self) -> Status | None:
        """None when no status is stored, or one that cannot be read. Raises AzureError."""
        async with BlobServiceClient.from_connection_string(self._connection) as service:
            try:
                download = await service.get_blob_client(_CONTAINER, self._blob).download_blob()
                return Status.from_json(json.loads(await download.readall()))
            except (ResourceNotFoundError, KeyError, ValueError):
                return None

    async def write(self, status: Status) -> None:
        """Store it if possible: a timer runs on without its monitor."""
        try:
            async with BlobServiceClient.from_connection_string(self._connection) as service:
                container = service.get_container_client(_CONTAINER)
                if not await container.exists():
                    await container.create_container()
                await container.upload_blob(self._blob, json.dumps(status.as_json()), overwrite=True)
        except AzureError as error:
            _log.error("The status of a timer was not stored: %r", error)


class TimerListener:
    """Runs one function on its schedule."""

    def __init__(self, function: Function, settings: Mapping[str, str], invocations: Invocations, host_id: str) -> None:
        """Raises ConfigError."""
        self.function = function
        self._invocations = invocations
        self._schedule = Schedule(resolve(function.trigger["schedule"], settings))
        self._run_on_startup = bool(function.trigger.get("runOnStartup"))
        monitored = function.trigger.get("useMonitor")
        wanted = self._schedule.is_rare() and monitored is not False
        self._monitor = Monitor(connection_string("", settings), host_id, function.name) if wanted else None
        self._at_startup = True

    async def run(self, stopping: asyncio.Event) -> None:
        """See Listener."""
        status, past_due = await self._first_status(datetime.now(UTC))
        startup, self._at_startup = self._at_startup and self._run_on_startup, False
        if past_due or startup:
            status = await self._fire(status, past_due=past_due, on_schedule=False)
        while True:
            await pause(stopping, max(0.0, (status.next - datetime.now(UTC)).total_seconds()))
            if stopping.is_set():
                return
            status = await self._fire(status, past_due=False, on_schedule=True)

    def manual_input(self, text: str) -> Input:  # noqa: ARG002  # a timer takes no input
        """See Listener."""
        return self._input(None, past_due=False, reason="This function was programmatically called via the host APIs.")

    async def _first_status(self, now: datetime) -> tuple[Status, bool]:
        fresh = Status(last=_NEVER, next=self._schedule.next_after(now), updated=now)
        if self._monitor is None:
            return fresh, False
        stored = await self._monitor.read()
        if stored is None:
            await self._monitor.write(fresh)
            return fresh, False
        known = stored.updated if stored.last == _NEVER else stored.last
        expected = self._schedule.next_after(known)
        if stored.next != expected:  # the schedule was changed: what the new one missed is not made up for
            status = Status(last=_NEVER, next=expected, updated=known) if expected > now else fresh
            await self._monitor.write(status)
            return status, False
        return stored, now > stored.next

    async def _fire(self, status: Status, *, past_due: bool, on_schedule: bool) -> Status:
        started = datetime.now(UTC)
        reason = f"Timer fired at {started.isoformat()}"
        shown = status if self._monitor else None
        await self._invocations.trigger_with_retries(
            self.function, self._input(shown, past_due=past_due, reason=reason)
        )
        counted_as = max(started, status.next) if on_schedule else started
        after = Status(last=counted_as, next=self._schedule.next_after(counted_as), updated=counted_as)
        if self._monitor:
            await self._monitor.write(after)
        return after

    def _input(self, status: Status | None, *, past_due: bool, reason: str) -> Input:
        document = {
            "Schedule": {"AdjustForDST": True},
            "ScheduleStatus": status.as_json() if status else None,
            "IsPastDue": past_due,
        }
        return Input(data=json_data(document), metadata={}, reason=reason)
