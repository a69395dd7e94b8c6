"""First configurations and those of other gateways: what is made is what the real parser reads, and what is left out is told."""

import json
import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from devtools import cli
from devtools.moving import azure, litellm, powerproxy
from devtools.moving.draft import Draft, checked, toml
from shared.core.clients.identity import identify
from shared.core.configuration import Configuration, Limits, Strategy, UpstreamAuth, UpstreamKind
from shared.core.errors import Unauthenticated
from shared.core.money.prices import Price

KEY_1, KEY_2 = "0123456789abcdef0123456789abcd", "fedcba9876543210fedcba98765432"

POWERPROXY = f"""
clients:
  - name: Team 1
    description: first
    key: {KEY_1}
    deployments_allowed: gpt-4o, embed
    max_tokens_per_minute_in_k: {{gpt-4o: 20, embed: 5.5}}
  - name: Team 2
    key: {KEY_2}
    deployments_allowed: [gpt-4o]
    max_tokens_per_minute_in_k: 30
  - name: Short
    key: abc
  - name: Entra
    uses_entra_id_auth: true
    nickname: x
plugins:
  - name: AllowDeployments
  - name: LimitUsage
  - name: LogUsageToCsvFile
  - name: OurOwn
aoai:
  endpoints:
    - name: Sweden PTU
      url: https://swe.openai.azure.com/
      key: azure-key
      non_streaming_fraction: 0.5
      virtual_deployments:
        - name: gpt-4o
          standins:
            - name: gpt-4o-ptu
            - name: gpt-4o-paygo
    - name: France
      url: https://fra.openai.azure.com/
azure_subscription_id: x
user_assigned_managed_identity_client_id: 11111111-1111-1111-1111-111111111111
"""

LITELLM = """
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o-eu
      api_base: https://eu.openai.azure.com/
      api_key: os.environ/EU_KEY
      api_version: "2025-01-01-preview"
      rpm: 6
      order: 1
    model_info: {input_cost_per_token: 0.0000025, output_cost_per_token: 0.00001}
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_key: sk-secret, weight: 3, order: 2, temperature: 0.2}
  - model_name: gpt-4o-mini
    litellm_params: {model: gpt-4o-mini, api_key: sk-secret}
  - model_name: gpt-5
    litellm_params: {model: azure/gpt-5, api_base: os.environ/US_BASE, tenant_id: t, client_id: c, client_secret: s}
  - model_name: claude
    litellm_params: {model: anthropic/claude-sonnet-4-5}
  - model_name: "*"
    litellm_params: {model: openai/*}
litellm_settings: {drop_params: true}
router_settings:
  routing_strategy: least-busy
  model_group_alias: {gpt-4: gpt-4o, hidden: {model: gpt-4o, hidden: true}, lost: nothing}
  fallbacks: [{gpt-4o: [gpt-4o-mini]}]
  num_retries: 2
general_settings: {master_key: sk-master, database_url: postgresql://x}
"""
KEYS: list[dict[str, Any]] = [
    {"key_alias": "Team A", "team_alias": "CC-1", "models": ["gpt-4o"], "tpm_limit": 1000, "rpm_limit": 10,
     "max_budget": 25.5, "budget_duration": "30d", "token": "hash", "metadata": {"x": 1}},
    {"key_alias": "weekly", "max_budget": 5, "budget_duration": "7d", "models": []},
    {"key_alias": "gone", "blocked": True},
]  # fmt: skip

ACCOUNTS: list[dict[str, Any]] = [
    {"name": "eastus-ai", "kind": "OpenAI", "location": "eastus",
     "properties": {"endpoint": "https://eastus-ai.openai.azure.com/", "disableLocalAuth": True}},
    {"name": "swe-ai", "kind": "AIServices", "location": "swedencentral",
     "properties": {"endpoint": "https://swe-ai.cognitiveservices.azure.com/",
                    "endpoints": {"OpenAI Language Model Instance API": "https://swe-ai.openai.azure.com/"}}},
    {"name": "speech", "kind": "SpeechServices", "properties": {}},
]  # fmt: skip


def deployed(account: str, name: str, model: str, **more: Any) -> dict[str, Any]:
    """One entry of Azure's list of deployments."""
    properties = {"model": {"format": more.pop("format", "OpenAI"), "name": model}, "provisioningState": "Succeeded"}
    return {
        "id": f"/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/{account}/deployments/{name}",
        "name": name, "sku": {"name": more.pop("sku", "Standard"), "capacity": more.pop("capacity", 1)},
        "properties": properties | more,
    }  # fmt: skip


DEPLOYMENTS = [
    deployed("eastus-ai", "gpt4o-ptu", "gpt-4o", sku="GlobalProvisionedManaged", capacity=50),
    deployed("swe-ai", "gpt4o", "gpt-4o", sku="GlobalStandard", capacity=120),
    deployed("swe-ai", "r1", "DeepSeek-R1", format="DeepSeek"),
    deployed("swe-ai", "new", "gpt-5", provisioningState="Creating"),
    deployed("elsewhere", "x", "gpt-4o"),
]


def read(draft: Draft) -> Configuration:
    """What the gateway reads of what is written."""
    return checked(draft, toml(draft, "test"))


def pool(configuration: Configuration, model: str) -> list[tuple[str, str, int]]:
    """Where a model's calls go: upstream, its name there, priority; best first."""
    targets = [
        (t.upstream.name, t.deployment.deployment, t.deployment.priority) for t in configuration.pools[model].targets
    ]
    return sorted(targets, key=lambda target: target[2])


def test_powerproxys_clients_keep_their_keys_models_and_limits() -> None:
    configuration = read(powerproxy.from_config(yaml.safe_load(POWERPROXY)))
    first = identify((("api-key", KEY_1),), configuration.keys_by_id)
    assert (first.id, first.name, first.models) == ("team-1", "Team 1", ("gpt-4o", "embed"))
    assert first.limits == Limits(tokens_per_minute=25_500)
    second = identify((("authorization", f"Bearer {KEY_2}"),), configuration.keys_by_id)
    assert (second.id, second.limits.tokens_per_minute) == ("team-2", 30_000)
    for wrong in ("abc", KEY_1 + "x", ""):
        with pytest.raises(Unauthenticated):
            identify((("api-key", wrong),), configuration.keys_by_id)


def test_powerproxys_endpoints_are_asked_in_their_order() -> None:
    configuration = read(powerproxy.from_config(yaml.safe_load(POWERPROXY), ("o1",)))
    assert pool(configuration, "gpt-4o") == [
        ("sweden-ptu", "gpt-4o-ptu", 0), ("sweden-ptu", "gpt-4o-paygo", 1), ("france", "gpt-4o", 100),
    ]  # fmt: skip
    assert pool(configuration, "o1") == [("sweden-ptu", "o1", 0), ("france", "o1", 100)]
    sweden, france = configuration.document.upstreams
    assert (sweden.key, sweden.auth) == ("$SWEDEN_PTU_KEY", UpstreamAuth.KEY)
    assert (france.auth, france.identity_client_id) == (UpstreamAuth.IDENTITY, "11111111-1111-1111-1111-111111111111")


def test_what_powerproxy_says_and_is_not_kept_is_told() -> None:
    draft = powerproxy.from_config(yaml.safe_load(POWERPROXY))
    told = "\n".join(draft.notes)
    for part in (
        "The limits of 'team-1' for each deployment", "'short': a key of fewer than 20 characters", "'entra' stood for everyone",
        "The client 'entra': nickname", "`non_streaming_fraction`", "The plugin OurOwn", "every call is recorded",
    ):  # fmt: skip
        assert part in told, part
    assert [*draft.new_keys] == ["short"]
    assert draft.settings == {"SWEDEN_PTU_KEY": "azure-key"}


def test_powerproxys_rules_hold_only_where_their_plugins_are_on() -> None:
    config = yaml.safe_load(POWERPROXY) | {"plugins": []}
    (client, *_) = read(powerproxy.from_config(config)).document.clients
    assert (client.models, client.limits) == (None, Limits())


def test_litellms_models_become_pools() -> None:
    draft = litellm.from_config(yaml.safe_load(LITELLM))
    configuration = read(draft)
    assert pool(configuration, "gpt-4o") == [("eu", "gpt-4o-eu", 1), ("openai", "gpt-4o", 2)]
    assert pool(configuration, "gpt-4") == pool(configuration, "hidden") == pool(configuration, "gpt-4o")
    assert configuration.pools["gpt-4o"].model.strategy is Strategy.LEAST_OUTSTANDING
    eu, openai, us = configuration.document.upstreams
    assert (eu.kind, eu.url, eu.key, eu.api_version) == (
        UpstreamKind.AZURE, "https://eu.openai.azure.com", "$EU_KEY", "2025-01-01-preview",
    )  # fmt: skip
    assert (openai.kind, openai.url, openai.key) == (UpstreamKind.OPENAI, "https://api.openai.com/v1", "$OPENAI_KEY")
    assert (us.url, us.auth, us.key) == ("$US_BASE", UpstreamAuth.IDENTITY, None)
    assert draft.settings == {"EU_KEY": "", "OPENAI_KEY": "sk-secret", "US_BASE": "", "TOLLGATE_ADMIN_KEY": "sk-master"}
    assert configuration.document.prices == (Price(model="gpt-4o", input=Decimal("2.5"), output=Decimal(10)),)
    assert {"claude", "*"}.isdisjoint(configuration.pools)


def test_litellms_keys_become_clients_with_their_limits() -> None:
    draft = litellm.from_config(yaml.safe_load(LITELLM), KEYS)
    team, weekly = read(draft).document.clients
    assert (team.id, team.name, team.cost_center, team.models) == ("team-a", "Team A", "CC-1", ("gpt-4o",))
    assert team.limits == Limits(requests_per_minute=10, tokens_per_minute=1000, money_per_month=Decimal("25.5"))
    assert (weekly.models, weekly.limits) == (None, Limits())
    assert [*draft.new_keys] == ["team-a", "weekly"]


def test_what_litellm_says_and_is_not_kept_is_told() -> None:
    told = "\n".join(litellm.from_config(yaml.safe_load(LITELLM), KEYS).notes)
    for part in (
        "'claude' (anthropic/claude-sonnet-4-5) is anthropic's", "names every model by *", "`rpm` and `tpm` of deployments",
        "The model 'gpt-4o': temperature", "The aliases of 'nothing'", "`fallbacks`", "router_settings: num_retries",
        "general_settings: database_url", "litellm_settings: drop_params", "'weekly' for 7d", "'gone' is blocked",
        "'Team A': metadata", "the app's own identity is shown", "has a new one",
    ):  # fmt: skip
        assert part in told, part


def test_azures_lists_become_a_configuration() -> None:
    draft = azure.from_lists(ACCOUNTS, DEPLOYMENTS, by_key=True)
    configuration = read(draft)
    assert pool(configuration, "gpt-4o") == [("eastus-ai", "gpt4o-ptu", 0), ("swe-ai", "gpt4o", 1)]
    assert [t.deployment.weight for t in configuration.pools["gpt-4o"].targets] == [50, 120]
    east, swe = configuration.document.upstreams
    assert (east.auth, east.region) == (UpstreamAuth.IDENTITY, "eastus"), "it allows no keys"
    assert (swe.url, swe.key) == ("https://swe-ai.openai.azure.com", "$SWE_AI_KEY")
    told = "\n".join(draft.notes)
    for part in (
        "'speech' is of the kind",
        "model of DeepSeek",
        "'new' on 'swe-ai' is Creating",
        "account 'elsewhere'",
    ):
        assert part in told, part
    assert len(draft.notes) == 5


# The commands.


def run(*arguments: str) -> int:
    return cli.main(list(arguments))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    files = {"power.yaml": POWERPROXY, "lite.yaml": LITELLM, "keys.json": json.dumps({"keys": KEYS}),
             "accounts.json": json.dumps(ACCOUNTS), "deployments.json": json.dumps(DEPLOYMENTS)}  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


MADE = {
    "powerproxy": ("import", "powerproxy", "power.yaml"),
    "litellm": ("import", "litellm", "lite.yaml", "--key-list", "keys.json"),
    "azure": ("init", "--accounts", "accounts.json", "--deployments", "deployments.json", "--client", "Team A"),
    "options": (
        "init",
        "--kind",
        "azure-v1",
        "--upstream-url",
        "https://x.openai.azure.com",
        "--models",
        "a,b",
        "--keys",
    ),
    "nothing but a client": ("init", "--kind", "openai", "--client", "a", "--client", "b"),
}


@pytest.mark.parametrize("arguments", MADE.values(), ids=MADE.keys())
def test_what_is_written_is_good_by_the_gateways_own_parser(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert run(*arguments) == 0
    out = capsys.readouterr().out
    assert "Next: TOLLGATE_CONFIG=tollgate.toml python -m devtools.cli doctor" in out
    text = (folder / "tollgate.toml").read_text()
    settings = dict.fromkeys(("SWEDEN_PTU_KEY", "EU_KEY", "OPENAI_KEY", "US_BASE", "X_KEY", "SWE_AI_KEY"), "x")
    file = folder / "all.json"
    file.write_text(json.dumps({"Values": settings | {"US_BASE": "https://us.example"}}))
    assert run("config", "check", "tollgate.toml", "--settings", str(file)) == 0, capsys.readouterr().out
    for secret in ("sk-secret", "sk-master", "azure-key", KEY_1, KEY_2):
        assert secret not in text + out, "secrets are in neither the document nor on the terminal"
    assert run(*arguments) == 1, "what is there is not written over"
    assert "--force" in capsys.readouterr().err
    assert run(*arguments, "--force") == 0


def test_secrets_are_written_for_their_owner_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import", "litellm", "lite.yaml", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    secrets = folder / told["secrets"]
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    assert json.loads(secrets.read_text())["Values"]["OPENAI_KEY"] == "sk-secret"
    assert told["not_carried_over"]
    assert not (folder / "power.settings.json").exists()


def test_a_new_key_is_shown_once_and_works(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*MADE["azure"]) == 0
    key = capsys.readouterr().out.partition("team-a: ")[2].split()[0]
    text = (folder / "tollgate.toml").read_text()
    assert key not in text
    assert identify((("api-key", key),), checked(Draft(), text).keys_by_id).id == "team-a"


BAD = {
    "no file": ("import", "litellm", "none.yaml"),
    "no YAML": ("import", "powerproxy", "bad.yaml"),
    "another shape": ("import", "powerproxy", "lite.yaml.list"),
    "nobody to ask": ("init", "--kind", "azure"),
}


@pytest.mark.parametrize("arguments", BAD.values(), ids=BAD.keys())
def test_what_cannot_be_read_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    (folder / "bad.yaml").write_text("a: [")
    (folder / "lite.yaml.list").write_text("[1, 2]")
    assert run(*arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert not (folder / "tollgate.toml").exists()


def test_what_is_asked_at_a_terminal_makes_a_configuration(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(["", "https://contoso.openai.azure.com/", "gpt-4o, o3", "Team B"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    assert run("init") == 0
    assert "tollgate.toml: 1 upstream, 2 deployments, 1 client\n" in capsys.readouterr().out
    configuration = checked(Draft(), (folder / "tollgate.toml").read_text())
    assert [*configuration.pools] == ["gpt-4o", "o3"]
    (upstream,) = configuration.document.upstreams
    assert (upstream.name, upstream.kind, upstream.auth) == ("contoso", UpstreamKind.AZURE, UpstreamAuth.IDENTITY)
    assert [client.id for client in configuration.document.clients] == ["team-b"]
    assert msgspec.structs.asdict(configuration.document.clients[0])["name"] == "Team B"
