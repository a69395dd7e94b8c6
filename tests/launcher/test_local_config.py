"""What the launcher decides and writes, apart from starting anything."""

import re
import stat
import tomllib
from pathlib import Path

import pytest

from devtools.launch import LaunchError, port, read_settings
from devtools.local_config import MODELS, choose_upstream, config_toml, load_keys, simulator_upstream
from shared.core.clients.keys import verify

UPSTREAMS = {
    "OpenAI": ({"OPENAI_API_KEY": "sk"}, ("openai", "https://api.openai.com/v1", "$OPENAI_API_KEY")),
    "another server that speaks OpenAI": (
        {"OPENAI_API_KEY": "sk", "OPENAI_BASE_URL": "http://localhost:8000/v1/"},
        ("openai", "http://localhost:8000/v1", "$OPENAI_API_KEY"),
    ),
    "Azure OpenAI": (
        {"AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com/", "AZURE_OPENAI_API_KEY": "k"},
        ("azure-v1", "https://x.openai.azure.com", "$AZURE_OPENAI_API_KEY"),
    ),
    "Azure OpenAI, the endpoint copied with its path": (
        {"AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com/openai/v1/", "AZURE_OPENAI_API_KEY": "k"},
        ("azure-v1", "https://x.openai.azure.com", "$AZURE_OPENAI_API_KEY"),
    ),
    "both: Azure needs two settings, so it was meant": (
        {"AZURE_OPENAI_ENDPOINT": "https://x", "AZURE_OPENAI_API_KEY": "k", "OPENAI_API_KEY": "sk"},
        ("azure-v1", "https://x", "$AZURE_OPENAI_API_KEY"),
    ),
    "an endpoint without a key": ({"AZURE_OPENAI_ENDPOINT": "https://x"}, None),
    "an empty key": ({"OPENAI_API_KEY": ""}, None),
    "nothing": ({}, None),
}


@pytest.mark.parametrize(("settings", "expected"), UPSTREAMS.values(), ids=UPSTREAMS.keys())
def test_the_upstream_is_the_one_that_the_settings_name(
    settings: dict[str, str], expected: tuple[str, str, str] | None
) -> None:
    upstream = choose_upstream(settings)
    assert (upstream and (upstream.kind, upstream.url, upstream.key)) == expected


def test_models_are_the_usual_ones_unless_named() -> None:
    assert simulator_upstream("http://h", {}).models == MODELS
    assert simulator_upstream("http://h", {"TOLLGATE_MODELS": " a, b,,a"}).models == ("a", "b")


def test_the_configuration_opens_for_the_clients_keys_and_holds_none_of_them(tmp_path: Path) -> None:
    keys = load_keys(tmp_path / "keys.json")
    text = config_toml(simulator_upstream("http://127.0.0.1:1", {"TOLLGATE_MODELS": 'a,"b\\'}), keys.clients)
    config = tomllib.loads(text)
    assert config["upstreams"] == [
        {"name": "simulator", "kind": "openai", "url": "http://127.0.0.1:1/v1", "key": "simulator-key"}
    ]
    assert [(one["name"], one["model"], one["upstream"]) for one in config["deployments"]] == [
        ("a", "a", "simulator"),
        ('"b\\', '"b\\', "simulator"),
    ]
    assert [client["id"] for client in config["clients"]] == ["team-a", "team-b"]
    for client, written in zip(keys.clients, config["clients"], strict=True):
        assert written["keys"] == [
            {"id": client.key.hash.id, "salt": client.key.hash.salt, "hash": client.key.hash.hash}
        ]
        assert verify(client.key.text, client.key.hash)
        assert client.key.text not in text


def test_keys_are_made_once_and_are_their_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / ".local" / "keys.json"
    keys = load_keys(file)
    assert load_keys(file) == keys
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len({*(client.key.text for client in keys.clients), keys.admin_key}) == 3


def test_the_environment_wins_over_local_settings_json(tmp_path: Path) -> None:
    file = tmp_path / "local.settings.json"
    assert read_settings(file, {"A": "env"}) == {"A": "env"}
    file.write_text('{"IsEncrypted": false, "Values": {"A": "file", "B": "file"}}')
    assert read_settings(file, {"A": "env"}) == {"A": "env", "B": "file"}


@pytest.mark.parametrize("text", ["{", '{"Values": {"A": 1}}', "[]"])
def test_a_broken_local_settings_json_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "local.settings.json"
    file.write_text(text)
    with pytest.raises(LaunchError, match=re.escape("local.settings.json: ")):
        read_settings(file, {})


@pytest.mark.parametrize("text", ["seven", "-1", "65536", "7071.0", "\u0663"])
def test_a_port_that_is_none_is_named_with_its_setting(text: str) -> None:
    with pytest.raises(LaunchError, match=r"PORT is .* PORT=7072 make run"):
        port({"PORT": text}, "PORT")


def test_an_empty_port_means_the_default() -> None:
    assert port({"PORT": ""}, "PORT", 0) == 0
