"""`make run` for real: Azurite, the simulator and the app, started, killed and started again."""

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from azure.storage.blob import BlobServiceClient

from devtools.azurite import Azurite
from devtools.launch import free_port
from tests.launcher.conftest import Run, ends

Start = Callable[..., Run]


def _get(url: str) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    connection.request("GET", parts.path)
    response = connection.getresponse()
    status, body = response.status, response.read()
    connection.close()
    return status, body


def _put_blob(storage: str, name: str) -> None:
    with BlobServiceClient.from_connection_string(storage) as client:
        if not (container := client.get_container_client("kept")).exists():
            container.create_container()
        container.upload_blob(name, b"recorded")


def _blobs(storage: str) -> list[str]:
    with BlobServiceClient.from_connection_string(storage) as client:
        return [blob.name for blob in client.get_container_client("kept").list_blobs()]


def test_says_how_to_use_it_for_people_and_for_scripts_and_leaves_nothing_behind(checkout: Path, start: Start) -> None:
    run = start()
    info = run.info()
    assert stat.S_IMODE((checkout / ".local/run.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((checkout / ".local/keys.json").stat().st_mode) == 0o600
    assert _get(f"{info['base_url']}/health")[0] == 200
    assert _get(info["simulator_account_url"])[0] == 200
    assert info["api_key"] != info["second_api_key"]
    assert set(info["pids"]) == {"launcher", "azurite", "simulator", "app"}
    for shown in (info["openai_base_url"], info["api_key"], info["usage_url"], "curl -N", "OpenAI("):
        assert shown in run.output
    assert info["admin_key"] not in run.output

    assert run.stop() == 0, run.output
    assert all(ends(pid) for pid in info["pids"].values())
    assert not (checkout / ".local/run.json").exists()


def test_after_the_death_of_any_process_the_next_run_has_keys_and_data(start: Start) -> None:
    """Each run loses another of its processes, after a blob of that name was acknowledged."""
    port, kept = str(free_port()), list[str]()
    run = start(PORT=port)
    for name in ("azurite", "simulator", "app", "launcher"):
        before = run.info()
        _put_blob(before["storage_connection_string"], name)
        kept.append(name)
        os.kill(before["pids"][name], signal.SIGKILL)
        if name == "launcher":
            assert run.exit_code() == -signal.SIGKILL
        else:
            assert run.exit_code() == 1
            assert f"{name} ended by itself" in run.output
            assert all(ends(pid) for pid in before["pids"].values())

        run = start(PORT=port)
        after = run.info()
        assert all(ends(pid) for pid in before["pids"].values())
        assert after["api_key"] == before["api_key"]
        assert _blobs(after["storage_connection_string"]) == sorted(kept)


def test_a_second_run_in_the_same_checkout_says_so(start: Start) -> None:
    first = start()
    info = first.info()
    second = start()
    assert second.exit_code() == 1
    assert info["base_url"] in second.output
    assert _get(f"{info['base_url']}/health")[0] == 200


@pytest.mark.parametrize("name", ["PORT", "TOLLGATE_SIMULATOR_PORT", "TOLLGATE_AZURITE_TABLE_PORT"])
def test_a_taken_port_is_a_message_with_the_setting_that_changes_it(name: str, checkout: Path, start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        run = start(**{name: str(port)})
        assert run.exit_code() == 1
    assert f"port {port}" in run.output
    assert f"{name}={port + 1} make run" in run.output
    assert "Traceback" not in run.output
    assert not (checkout / ".local/pids.json").exists()


def test_an_app_that_ends_at_its_start_shows_why(checkout: Path, start: Start) -> None:
    (checkout / "devtools/devhost/__main__.py").write_text("raise SystemExit('no such binding')\n")
    run = start()
    assert run.exit_code() == 1
    assert "app ended with 1" in run.output
    assert "no such binding" in run.output
    assert str(checkout / ".local/logs/app.log") in run.output


def test_what_the_user_has_set_wins(checkout: Path, start: Start, tmp_path: Path) -> None:
    first = start()
    config = checkout / ".local/tollgate.toml"
    first.info()
    first.stop()
    own = tmp_path / "own.toml"
    own.write_text(config.read_text())
    config.unlink()
    with Azurite.start() as azurite:
        values = {"AzureWebJobsStorage": azurite.connection_string, "TOLLGATE_CONFIG": str(own)}
        (checkout / "local.settings.json").write_text(json.dumps({"IsEncrypted": False, "Values": values}))
        run = start(TOLLGATE_ADMIN_KEY="mine")
        info = run.info()
        assert set(info["pids"]) == {"launcher", "app"}
        assert info["storage_connection_string"] == azurite.connection_string
        assert (info["admin_key"], info["api_key"], info["simulator_url"]) == ("mine", None, None)
        assert not config.exists()
        run.stop()


def test_core_tools_run_the_app_where_they_are_installed_with_our_python(start: Start, tmp_path: Path) -> None:
    func = tmp_path / "func"
    func.write_text('#!/bin/sh\necho "func $*"; test "$1" = start; shift; exec python -m devtools.devhost "$@"\n')
    func.chmod(0o755)
    run = start(PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    info = run.info()
    assert _get(f"{info['base_url']}/health")[0] == 200
    log = tmp_path / "checkout/.local/logs/app.log"
    assert log.read_text().startswith(f"func start --port {urlsplit(info['base_url']).port}")
    assert run.stop() == 0


def test_a_configuration_that_cannot_be_used_is_shown_while_it_waits(start: Start, tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[[clients]\n")
    run = start(TOLLGATE_CONFIG=str(broken))
    while "not ready: /health/ready says" not in run.output:
        assert run.process.poll() is None, run.output
        time.sleep(0.05)
    assert run.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_ends_with_make_however_make_alone_ends(number: signal.Signals, checkout: Path) -> None:
    (checkout / "Makefile").write_text(f"run:\n\t@{sys.executable} -m devtools.run --stop-with-parent\n")
    # A job in the background of a script has SIGINT ignored, and hands that on.
    make = "import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp('make', ['make', 'run'])"
    environment = {**os.environ, "PORT": "0"}
    with subprocess.Popen(
        [sys.executable, "-c", make], cwd=checkout, env=environment, stdout=subprocess.DEVNULL
    ) as process:
        file = checkout / ".local/run.json"
        while not file.exists():
            assert process.poll() is None
            time.sleep(0.05)
        pids = json.loads(file.read_text())["pids"]
        process.send_signal(number)
    assert all(ends(pid) for pid in pids.values())
    assert not file.exists()
