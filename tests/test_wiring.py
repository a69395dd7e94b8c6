"""What cannot be made is told as NotReady, with what to do, and is tried again with the next call.

Guards, with tests/test_architecture.py, that a wrong setting shows on /health/ready and in a clear error per call.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from functions import health
from functions.web import AnswerResponse
from shared import wiring
from shared.core.errors import NotReady
from shared.settings import SettingsInvalid, Transports, read_settings
from tests.emulator import AWAY

OURS = ("TOLLGATE_", "AzureWebJobs")

WRONG: dict[str, tuple[dict[str, str], str]] = {
    "no storage": ({}, "AzureWebJobsStorage is not set"),
    "storage is no connection string": (
        {"AzureWebJobsStorage": "nonsense"},
        "AzureWebJobsStorage is no connection string",
    ),
    "half a connection string": (
        {"AzureWebJobsStorage": "AccountName=x"},
        "AzureWebJobsStorage is no connection string",
    ),
    "storage is away": ({"AzureWebJobsStorage": AWAY}, "storage account cannot be reached"),
    "two settings": (
        {"TOLLGATE_PREFIX": "X!", "TOLLGATE_CONNECT_TIMEOUT_S": "soon", "AzureWebJobsStorage": AWAY},
        "TOLLGATE_PREFIX must be .*; TOLLGATE_CONNECT_TIMEOUT_S could not",
    ),
}


@pytest.fixture(autouse=True)
def unmade(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has made nothing yet, in an environment without settings of ours."""
    for name in [name for name in wiring.os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(wiring, "_making", None)
    wiring.settings_for_bindings.cache_clear()
    yield
    wiring.settings_for_bindings.cache_clear()


def set_all(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(("environment", "message"), WRONG.values(), ids=WRONG.keys())
async def test_what_is_wrong_is_told_per_call(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    set_all(monkeypatch, environment)
    with pytest.raises(NotReady, match=message):
        await wiring.services()


@pytest.mark.parametrize(("environment", "message"), WRONG.values(), ids=WRONG.keys())
async def test_what_is_wrong_shows_on_health(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    set_all(monkeypatch, environment)
    function: Any = health.ready
    answer = await function._function.get_user_function()(req=None)
    assert isinstance(answer, AnswerResponse)
    body = json.loads(bytes(answer.body))
    assert (answer.status_code, body["status"]) == (503, "not_ready")
    (problem,) = body["problems"]
    with pytest.raises(NotReady, match=message):
        raise NotReady(problem)


async def test_what_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for environment, message in WRONG.values():
        set_all(monkeypatch, {"TOLLGATE_PREFIX": "", "TOLLGATE_CONNECT_TIMEOUT_S": ""} | environment)
        with pytest.raises(NotReady, match=message):
            await wiring.services()


def test_triggers_are_declared_with_the_defaults_where_settings_are_wrong_and_with_nobodys_queue_where_the_prefix_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong prefix is nearly a right one: the default's queue may be another app's, and its messages would be taken."""
    monkeypatch.setenv("TOLLGATE_PREFIX", "X!")
    monkeypatch.setenv("TOLLGATE_TRANSPORT", "pigeons")
    settings = wiring.settings_for_bindings()
    assert settings.transport is Transports.STORAGE_QUEUE
    assert settings.queue_name != "tollgate-calls"
    with pytest.raises(SettingsInvalid):
        read_settings({"TOLLGATE_PREFIX": settings.prefix})  # so it is nobody's
    assert "settings invalid" in caplog.text


def test_the_queue_of_an_app_whose_prefix_is_wrong_is_a_queue_that_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_PREFIX", "X!")
    name = wiring.settings_for_bindings().queue_name
    assert re.fullmatch("[a-z0-9](-?[a-z0-9])+", name), "else the host would refuse the function"
    assert 3 <= len(name) <= 63


def test_triggers_are_declared_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_PREFIX", "mine")
    assert wiring.settings_for_bindings().queue_name == "mine-calls"
