"""Timer triggers. They hold for `func start` too, but for the options of our own host."""

import itertools
import json
import os
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from azure.storage.blob.aio import BlobServiceClient

from devtools.azurite import Azurite
from devtools.devhost.client import DevHost, StartError
from devtools.devhost.config import ConfigError
from devtools.devhost.timers import Schedule
from tests.devhost.conftest import APPS, Notes

MOMENT = datetime(2026, 11, 21, 10, 0, 30, tzinfo=UTC)  # a Saturday

OCCURRENCES = {
    "seconds come first": ("15 * * * * *", MOMENT.replace(minute=1, second=15)),
    "every five seconds": ("*/5 * * * * *", MOMENT.replace(second=35)),
    "five fields have no seconds": ("*/5 * * * *", MOMENT.replace(minute=5, second=0)),
    "a time of day": ("0 30 9 * * *", datetime(2026, 11, 22, 9, 30, tzinfo=UTC)),
    "a day of the week by name": ("0 0 9 * * Mon-Fri", datetime(2026, 11, 23, 9, 0, tzinfo=UTC)),
    "both days have to match": ("0 0 0 13 * 5", datetime(2027, 8, 13, 0, 0, tzinfo=UTC)),
}


@pytest.mark.parametrize(("expression", "expected"), OCCURRENCES.values(), ids=OCCURRENCES)
def test_an_ncrontab_expression_is_read_as_the_host_reads_it(expression: str, expected: datetime) -> None:
    assert Schedule(expression).next_after(MOMENT) == expected


@pytest.mark.parametrize("expression", ["", "* * * *", "61 * * * * *", "00:05:00"])
def test_what_is_no_ncrontab_expression_is_refused(expression: str) -> None:
    with pytest.raises(ConfigError):
        Schedule(expression)


def settings(azurite: Azurite, notes: Notes, host_id: str) -> dict[str, str]:
    return {
        "AzureWebJobsStorage": azurite.connection_string,
        "AzureFunctionsWebHost__hostid": host_id,
        "EVERY": "* * * * * *",
        "NOTES": str(notes.path),
    }


async def test_a_timer_fires_by_its_setting_and_never_twice_at_once(azurite: Azurite, notes: Notes) -> None:
    async with DevHost.start(APPS / "timer", settings(azurite, notes, uuid.uuid4().hex)):
        ticks = await notes.wait_for(lambda notes: found if len(found := notes.read(name="tick")) >= 4 else [])
    assert all(before["ended"] <= after["began"] for before, after in itertools.pairwise(ticks))
    assert not any(tick["past_due"] for tick in ticks)


async def test_a_timer_may_run_at_startup(azurite: Azurite, notes: Notes) -> None:
    async with DevHost.start(APPS / "timer", settings(azurite, notes, uuid.uuid4().hex)):
        await notes.wait_for(lambda notes: notes.read(name="yearly", past_due=False))


async def test_admin_runs_a_timer(azurite: Azurite, notes: Notes) -> None:
    async with DevHost.start(APPS / "timer", settings(azurite, notes, uuid.uuid4().hex)) as host:
        await host.invoke("minutely")
        await notes.wait_for(lambda notes: notes.read(name="minutely", past_due=False))


@pytest.mark.skipif(os.environ.get("TOLLGATE_HOST") == "func", reason="func chooses the name of the blob's folder")
async def test_a_run_missed_while_no_host_was_up_is_made_up_for_as_past_due(azurite: Azurite, notes: Notes) -> None:
    host_id = uuid.uuid4().hex
    last = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=3)
    status = {
        "Last": last.isoformat(),
        "Next": (last + timedelta(minutes=1)).isoformat(),
        "LastUpdated": last.isoformat(),
    }
    blob = f"timers/{host_id}/Host.Functions.minutely/status"
    async with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
        container = service.get_container_client("azure-webjobs-hosts")
        if not await container.exists():
            await container.create_container()
        await container.upload_blob(blob, json.dumps(status))
        async with DevHost.start(APPS / "timer", settings(azurite, notes, host_id)):
            [run] = await notes.wait_for(lambda notes: notes.read(name="minutely", past_due=True))
            assert run["status"]["Last"] == status["Last"]
            assert run["status"]["Next"] == status["Next"]
        stored = json.loads(await (await container.download_blob(blob)).readall())
    assert datetime.fromisoformat(stored["Next"]) > datetime.now(UTC) - timedelta(minutes=1)
    assert datetime.fromisoformat(stored["Last"]) > last


async def test_a_missing_setting_in_a_schedule_is_named(azurite: Azurite, notes: Notes) -> None:
    given = settings(azurite, notes, uuid.uuid4().hex) | {"EVERY": ""}
    with pytest.raises(StartError, match="not recognized as a valid cron expression"):
        async with DevHost.start(APPS / "timer", given):
            pass
    del given["EVERY"]
    with pytest.raises(StartError, match="'%EVERY%' does not resolve to a value"):
        async with DevHost.start(APPS / "timer", given):
            pass
