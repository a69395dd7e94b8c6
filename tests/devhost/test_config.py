"""host.json and the app settings."""

import json
import os
from pathlib import Path

import pytest

from devtools.devhost.config import (
    Backoff,
    ConfigError,
    apply_settings,
    connection_string,
    read_host_json,
    resolve,
    timespan,
)


def test_the_environment_wins_over_local_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"MINE": "from the file", "NEW": "from the file"}
    (tmp_path / "local.settings.json").write_text(json.dumps({"IsEncrypted": False, "Values": values}))
    monkeypatch.setattr(os, "environ", environment := {"MINE": "from the environment"})
    apply_settings(tmp_path, 7071)
    assert environment["MINE"] == "from the environment"
    assert environment["NEW"] == "from the file"
    assert environment["WEBSITE_HOSTNAME"] == "localhost:7071"


def test_host_json_has_the_defaults_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    host = read_host_json(tmp_path)
    assert (host.route_prefix, host.function_timeout_s) == ("api", 1800)
    assert (host.queues.batch_size, host.queues.new_batch_threshold, host.queues.max_dequeue_count) == (16, 8, 5)
    assert (host.event_hubs.max_batch_size, host.event_hubs.checkpoint_every) == (100, 1)


def test_settings_in_bindings_are_resolved_or_named() -> None:
    assert resolve("a-%B%-%C%", {"B": "1", "C": "2"}) == "a-1-2"
    with pytest.raises(ConfigError, match="'%B%' does not resolve"):
        resolve("%B%", {})


def test_development_storage_is_azurite_at_its_usual_ports() -> None:
    assert "http://127.0.0.1:10001/devstoreaccount1" in connection_string(
        "", {"AzureWebJobsStorage": "UseDevelopmentStorage=true"}
    )


@pytest.mark.parametrize(("text", "seconds"), [("00:00:10", 10), ("1.02:00:00", 93600), ("00:00:00.5", 0.5)])
def test_a_time_span_is_read_as_in_net(text: str, seconds: float) -> None:
    assert timespan(text) == seconds


def test_delays_double_from_the_shortest_to_the_longest() -> None:
    backoff = Backoff(0.1, 2.0)
    delays = [backoff.next() for _ in range(8)]
    assert delays[0] == 0.1
    assert delays == sorted(delays)
    assert delays[-1] == 2.0
    backoff.reset()
    assert backoff.next() == 0.1
